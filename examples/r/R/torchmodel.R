# TorchScript models and AOTInductor packages in R, through the C API in .torchlink/capi.
#
# Failures of libtorch are conditions of the class torch_error. Models and values are freed when they are garbage.

DTYPES <- c(
  uint8 = 0L, int8 = 1L, int16 = 2L, int32 = 3L, int64 = 4L, float16 = 5L, float32 = 6L, float64 = 7L,
  complex64 = 9L, complex128 = 10L, bool = 11L, bfloat16 = 15L
)

# Raise what C returned as a failure.
checked <- function(result) {
  if (!inherits(result, "torch_failure")) return(result)
  stop(structure(
    class = c("torch_error", "error", "condition"),
    list(message = as.vector(result), call = NULL, status = attr(result, "status"))
  ))
}

text_argument <- function(text, what) {
  if (!is.character(text) || length(text) != 1 || is.na(text)) stop(what, " is not a string", call. = FALSE)
  text
}

# A model from a file, on a device: "cpu", "cuda:0", ...
load_model <- function(path, device = "cpu") {
  checked(.Call(C_load, path.expand(text_argument(path, "the path")), text_argument(device, "the device")))
}

# A shape for each argument of forward that has no default: a guess from the weights.
example_shapes <- function(model) {
  shapes <- list()
  while (!is.null(shape <- checked(.Call(C_example_shape, model, length(shapes))))) shapes <- c(shapes, list(shape))
  shapes
}

# Call the model; missing arguments take their defaults.
forward <- function(model, ...) {
  checked(.Call(C_forward, model, lapply(list(...), as_value)))
}

# Nested lists of numbers as an array.
nested <- function(numbers) {
  if (!is.list(numbers)) return(numbers)
  parts <- lapply(numbers, nested)
  shapes <- unique(lapply(parts, function(part) if (is.null(dim(part))) length(part) else dim(part)))
  if (length(shapes) > 1) stop("the rows have different lengths", call. = FALSE)
  # Lists of single numbers are one dimension, not two.
  single <- !any(vapply(numbers, is.list, NA)) && identical(shapes, list(1L))
  shape <- c(if (length(shapes) && !single) shapes[[1]], length(parts))
  flat <- if (length(parts)) unlist(parts) else numeric()
  aperm(array(flat, shape), c(length(shape), seq_len(length(shape) - 1)))
}

# A tensor of a vector, an array, or nested lists of one length a level. A shape is for others than the array's own; integer() is that
# of a single number.
tensor <- function(numbers, shape = NULL, dtype = if (is.complex(numbers)) "complex64" else "float32") {
  numbers <- nested(numbers)
  if (!(is.numeric(numbers) || is.logical(numbers) || is.complex(numbers) || is.raw(numbers))) {
    stop("a tensor takes numbers, not ", class(numbers)[1], call. = FALSE)
  }
  if (is.na(match(dtype, names(DTYPES)))) stop("no such dtype: ", dtype, call. = FALSE)
  if (!is.double(numbers) && anyNA(numbers)) stop("NA is no number of a tensor", call. = FALSE)
  own <- if (is.null(dim(numbers))) length(numbers) else dim(numbers)
  if (is.null(shape)) shape <- own
  if (anyNA(shape) || any(shape < 0) || prod(shape) != length(numbers)) {
    stop("the shape ", paste(shape, collapse = " "), " does not have ", length(numbers), " elements", call. = FALSE)
  }
  checked(.Call(C_tensor, numbers, as.double(shape), DTYPES[[dtype]]))
}

# An int: R's usual numbers are floats.
int <- function(number) {
  if (!is.numeric(number) || length(number) != 1 || is.na(number) || number != trunc(number) || abs(number) > 2^53) {
    stop("an int is one whole number", call. = FALSE)
  }
  checked(.Call(C_whole, number))
}

tuple <- function(...) checked(.Call(C_list, lapply(list(...), as_value), TRUE))

# The value of R's own: NULL, a logical, integer (an int), double (a float), complex number or string, a list (with names: a dict),
# an array or a longer vector (a tensor). Values stay as they are.
as_value <- function(plain) {
  if (inherits(plain, "torch_value")) return(plain)
  if (is.list(plain)) {
    values <- lapply(unname(plain), as_value)
    if (is.null(names(plain))) return(checked(.Call(C_list, values, FALSE)))
    return(checked(.Call(C_dict, enc2utf8(names(plain)), values)))
  }
  if (is.null(plain)) return(checked(.Call(C_scalar, NULL)))
  if (!is.atomic(plain)) stop("a model does not take ", class(plain)[1], call. = FALSE)
  if (!is.null(dim(plain)) || is.raw(plain) || (length(plain) != 1 && !is.character(plain))) return(tensor(plain))
  if (length(plain) != 1) stop("a model takes one string, or a list of them", call. = FALSE)
  if (is.na(plain) && !is.double(plain)) stop("a model does not take NA", call. = FALSE)
  checked(.Call(C_scalar, plain))
}

# "none", "bool", "int", "float", "complex", "string", "tensor", "list", "tuple", "dict" or "other".
kind <- function(value) checked(.Call(C_kind, value))

# The elements of a tensor in row-major order, as doubles (or complex numbers).
elements <- function(value) checked(.Call(C_elements, value))

# The items of a list, tuple or dict, and the keys of a dict in the same order.
items <- function(value) checked(.Call(C_each, value, FALSE))
keys <- function(value) checked(.Call(C_each, value, TRUE))

# The sizes of a tensor.
dim.torch_value <- function(x) if (kind(x) == "tensor") checked(.Call(C_shape, x))

# A tensor as an array of R, with the same indices; one number where it has no dimensions.
as.array.torch_value <- function(x, ...) {
  shape <- checked(.Call(C_shape, x))
  if (length(shape) == 0) return(elements(x))
  aperm(array(elements(x), rev(shape)), rev(seq_along(shape)))
}

# The value as R's own; tensors become arrays, dicts lists with names.
as_r <- function(value) {
  switch(kind(value),
    tensor = as.array(value),
    list = ,
    tuple = lapply(items(value), as_r),
    dict = structure(lapply(items(value), as_r), names = vapply(keys(value), function(key) as.character(as_r(key)), "")),
    other = value,
    checked(.Call(C_plain, value))
  )
}

print.torch_value <- function(x, ...) {
  cat("<", kind(x), if (kind(x) == "tensor") c(" ", paste(dim(x), collapse = "x")), ">\n", sep = "")
  invisible(x)
}

print.torch_model <- function(x, ...) {
  cat("<model>\n")
  invisible(x)
}
