# Runs a model with tensors of ones: Rscript main.R [--repeat N] MODEL [SIZE...]
# The sizes are those of each input; without them they follow from the model.
script <- sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE))[1]
here <- dirname(gsub("~+~", " ", script, fixed = TRUE)) # as R writes a space
library(torchmodel, lib.loc = file.path(here, "library"))

show <- function(value) {
  switch(kind(value),
    tensor = writeLines(paste(sprintf("%.9g", elements(value)), collapse = " ")),
    list = ,
    tuple = ,
    dict = for (item in items(value)) show(item),
    none = writeLines("none"),
    bool = writeLines(tolower(as_r(value))),
    string = writeLines(as_r(value), useBytes = TRUE),
    writeLines(format(as_r(value), digits = 9))
  )
}

run <- function(path, sizes, count) {
  model <- load_model(path)
  shapes <- example_shapes(model)
  if (length(sizes)) shapes <- lapply(shapes, function(shape) sizes)
  for (number in seq_len(count)) {
    inputs <- lapply(shapes, function(shape) tensor(array(1, if (length(shape)) shape else 1), shape))
    output <- do.call(forward, c(list(model), inputs))
    if (number == count) show(output)
    if (number %% 250 == 0) gc() # R sees pointers, not what is behind them
  }
}

whole_number <- function(text) if (grepl("^[0-9]{1,6}$", text)) as.numeric(text) else NA

arguments <- commandArgs(TRUE)
count <- 1
if (length(arguments) > 1 && arguments[1] == "--repeat") {
  count <- whole_number(arguments[2])
  arguments <- arguments[-(1:2)]
}
sizes <- vapply(arguments[-1], whole_number, 0, USE.NAMES = FALSE)
if (length(arguments) == 0 || is.na(count) || anyNA(sizes)) {
  message("usage: Rscript main.R [--repeat N] MODEL [SIZE...]")
  quit(status = 2)
}
tryCatch(run(arguments[1], sizes, count), error = function(failure) {
  message("main.R: ", conditionMessage(failure))
  quit(status = 1)
})
