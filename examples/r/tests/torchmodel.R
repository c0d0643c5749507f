# Rscript tests/torchmodel.R, from the project's directory
library(torchmodel, lib.loc = "library")

fails <- function(class, text, code) {
  failure <- tryCatch(code, error = function(failure) failure)
  stopifnot(inherits(failure, class), grepl(text, conditionMessage(failure), fixed = TRUE))
}

model <- load_model("model.pt")
output <- forward(model, tensor(rbind(c(1, 1, 1, 1), c(0, 0, 0, 0))))
stopifnot(kind(output) == "tensor", dim(output) == c(2, 2))
stopifnot(elements(output)[1:2] == c(2.5, -0.75), as.array(output)[1, ] == c(2.5, -0.75))

# Nested lists are tensors too, and indices are those of R's arrays.
rows <- list(list(1, 2, 3), list(4, 5, 6))
stopifnot(dim(tensor(rows)) == c(2, 3), elements(tensor(rows)) == 1:6)
blocks <- array(1:24, c(2, 3, 4))
stopifnot(identical(as.array(tensor(blocks)), blocks + 0), elements(tensor(blocks))[1:4] == blocks[1, 1, ])
stopifnot(dim(tensor(list(list(list(1), list(2))))) == c(1, 2, 1), length(dim(tensor(5, integer()))) == 0)
stopifnot(dim(tensor(list(c(1, 2), c(3, 4), c(5, 6)))) == c(3, 2), dim(tensor(1:3, dtype = "int64")) == 3)

fails("torch_error", "shapes cannot be multiplied", forward(model, tensor(matrix(1, 1, 3))))
fails("torch_error", "missing.pt", load_model("missing.pt"))
fails("error", "different lengths", tensor(list(list(1, 2), list(3))))
fails("error", "does not have 3 elements", tensor(c(1, 2, 3), c(2, 2)))
fails("error", "takes numbers", tensor(c("a", "b")))
fails("error", "not a value", kind(1))
fails("error", "not a model", forward(output))

for (plain in list(NULL, TRUE, 7L, 2.5, 1 + 2i, "text", list(1.5, 2.5), list(a = 1L, b = list("x")))) {
  stopifnot(identical(as_r(as_value(plain)), plain))
}
stopifnot(identical(as_r(int(2^40)), 2^40), kind(tuple(1, "two")) == "tuple")

# Large tensors are freed though R sees only pointers.
for (i in 1:40) tensor(numeric(4e6))
cat("ok\n")
