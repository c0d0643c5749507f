/*
 * Runs a model with tensors of ones: app [--repeat N] MODEL [SIZE...]
 * The sizes are those of each input; without them they follow from the model.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <torchmodel.h>

#define MOST_INPUTS 16

/* Return the status of the function that calls it where a call of the C API fails. */
#define TRY(call)                    \
  do {                               \
    const tm_status status_ = (call); \
    if (status_ != TM_OK) return status_; \
  } while (0)

static tm_status print_tensor(const tm_value *tensor) {
  tm_value *numbers;
  tm_tensor_info info;
  int64_t i;
  TRY(tm_tensor_to_dtype(tensor, TM_FLOAT64, &numbers));
  {
    tm_value *here;
    const tm_status status = tm_tensor_to_cpu(numbers, &here);
    tm_value_free(numbers);
    TRY(status);
    numbers = here;
  }
  TRY(tm_tensor_get_info(numbers, &info));
  for (i = 0; i < info.elements; ++i) printf(i > 0 ? " %.9g" : "%.9g", ((const double *)info.data)[i]);
  printf("\n");
  return tm_value_free(numbers);
}

/* One line for each tensor, number and text in a value. */
static tm_status print(const tm_value *value) {
  tm_kind kind;
  size_t length, i;
  int64_t number;
  double real;
  int32_t boolean;
  const char *text;
  TRY(tm_value_kind(value, &kind));
  switch (kind) {
    case TM_TENSOR:
      return print_tensor(value);
    case TM_LIST:
    case TM_TUPLE:
    case TM_DICT:
      TRY(tm_value_length(value, &length));
      for (i = 0; i < length; ++i) {
        tm_value *item;
        tm_status status;
        TRY(tm_value_item(value, i, &item));
        status = print(item);
        tm_value_free(item);
        TRY(status);
      }
      return TM_OK;
    case TM_STRING:
      TRY(tm_value_get_string(value, &text, NULL));
      printf("%s\n", text);
      return TM_OK;
    case TM_INT:
      TRY(tm_value_get_int(value, &number));
      printf("%" PRId64 "\n", number);
      return TM_OK;
    case TM_FLOAT:
      TRY(tm_value_get_float(value, &real));
      printf("%.9g\n", real);
      return TM_OK;
    case TM_BOOL:
      TRY(tm_value_get_bool(value, &boolean));
      printf("%s\n", boolean ? "true" : "false");
      return TM_OK;
    default:
      printf("none\n");
      return TM_OK;
  }
}

/* A tensor of ones over an array of this program, which the tensor frees when it is done with it. */
static tm_status ones(const int64_t *shape, int32_t dimensions, tm_value **tensor) {
  size_t elements = 1, i;
  int32_t d;
  float *numbers;
  tm_status status;
  for (d = 0; d < dimensions; ++d) elements *= (size_t)shape[d];
  numbers = malloc((elements > 0 ? elements : 1) * sizeof *numbers);
  if (numbers == NULL) return TM_ERROR_MEMORY;
  for (i = 0; i < elements; ++i) numbers[i] = 1;
  status = tm_tensor_borrow(numbers, TM_FLOAT32, shape, dimensions, NULL, free, numbers, tensor);
  if (status != TM_OK) free(numbers);
  return status;
}

/* One call of forward; prints the result where `shown` is set. */
static tm_status call(const tm_model *model, const int64_t *sizes, int32_t dimensions, int shown) {
  tm_value *inputs[MOST_INPUTS], *output = NULL;
  size_t count, i, made = 0;
  tm_status status;
  TRY(tm_model_argument_count(model, "forward", &count));
  for (i = 0, status = TM_OK; i < count && i < MOST_INPUTS && status == TM_OK; ++i) {
    tm_argument argument;
    int64_t guess[TM_MOST_DIMENSIONS];
    int32_t guessed = dimensions;
    status = tm_model_argument(model, "forward", i, &argument);
    if (status != TM_OK || argument.has_default) break;
    if (dimensions == 0) status = tm_model_example_shape(model, "forward", i, guess, &guessed);
    if (status == TM_OK) status = ones(dimensions == 0 ? guess : sizes, guessed, &inputs[i]);
    if (status == TM_OK) ++made;
  }
  if (status == TM_OK) status = tm_model_forward(model, (const tm_value *const *)inputs, made, &output);
  if (status == TM_OK && shown) status = print(output);
  while (made > 0) tm_value_free(inputs[--made]);
  tm_value_free(output);
  return status;
}

/* A whole number below a million; -1 where the text is none. */
static int64_t number_of(const char *text) {
  char *end;
  const long number = strtol(text, &end, 10);
  return *text == '\0' || *end != '\0' || number < 0 || number > 1000000 ? -1 : number;
}

int main(int argc, char **argv) {
  tm_model *model;
  int64_t sizes[TM_MOST_DIMENSIONS], repeat = 1, i;
  int first = 1;
  int32_t dimensions = 0;
  if (argc > 2 && strcmp(argv[1], "--repeat") == 0) {
    repeat = number_of(argv[2]);
    first = 3;
  }
  if (argc <= first || repeat < 0 || argc - first - 1 > TM_MOST_DIMENSIONS) {
    fprintf(stderr, "usage: app [--repeat N] MODEL [SIZE...]\n");
    return 2;
  }
  for (dimensions = 0; first + 1 + dimensions < argc; ++dimensions) {
    sizes[dimensions] = number_of(argv[first + 1 + dimensions]);
    if (sizes[dimensions] < 0) {
      fprintf(stderr, "app: a size is a whole number: %s\n", argv[first + 1 + dimensions]);
      return 2;
    }
  }
  if (tm_model_load(argv[first], "cpu", &model) != TM_OK) {
    fprintf(stderr, "app: %s\n", tm_last_error());
    return 1;
  }
  for (i = 1; i <= repeat; ++i) {
    if (call(model, sizes, dimensions, i == repeat) != TM_OK) {
      fprintf(stderr, "app: %s\n", tm_last_error());
      return 1;
    }
  }
  tm_model_free(model);
  return 0;
}
