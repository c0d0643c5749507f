/*
 * The C API as TorchModel.hsc calls it. A function returns null, or the message of its failure, to be freed: Haskell's threads move
 * between those of the system, and tm_last_error() is that of one.
 */
#include <stdlib.h>
#include <string.h>
#include <torchmodel.h>

static char *message(tm_status status) {
  const char *text = tm_last_error();
  char *copy;
  if (status == TM_OK) return NULL;
  copy = malloc(strlen(text) + 1);
  if (copy == NULL) abort();
  return strcpy(copy, text);
}

#define CALL(name, parameters, arguments) \
  char *hs_##name parameters { return message(tm_##name arguments); }

CALL(model_load, (const char *path, const char *device, tm_model **model), (path, device, model))
CALL(model_forward, (const tm_model *model, const tm_value *const *values, size_t count, tm_value **result), (model, values, count, result))
CALL(value_none, (tm_value **value), (value))
CALL(value_bool, (int32_t boolean, tm_value **value), (boolean, value))
CALL(value_int, (int64_t number, tm_value **value), (number, value))
CALL(value_float, (double number, tm_value **value), (number, value))
CALL(value_complex, (double real, double imaginary, tm_value **value), (real, imaginary, value))
CALL(value_string, (const char *text, size_t size, tm_value **value), (text, size, value))
CALL(value_list, (const tm_value *const *items, size_t count, tm_value **value), (items, count, value))
CALL(value_tuple, (const tm_value *const *items, size_t count, tm_value **value), (items, count, value))
CALL(value_dict, (tm_value **value), (value))
CALL(value_dict_set, (tm_value *dict, const tm_value *key, const tm_value *item), (dict, key, item))
CALL(value_kind, (const tm_value *value, tm_kind *kind), (value, kind))
CALL(value_get_bool, (const tm_value *value, int32_t *boolean), (value, boolean))
CALL(value_get_int, (const tm_value *value, int64_t *number), (value, number))
CALL(value_get_float, (const tm_value *value, double *number), (value, number))
CALL(value_get_complex, (const tm_value *value, double *parts), (value, parts, parts + 1))
CALL(value_get_string, (const tm_value *value, const char **text, size_t *size), (value, text, size))
CALL(value_length, (const tm_value *value, size_t *length), (value, length))
CALL(value_item, (const tm_value *value, size_t index, tm_value **item), (value, index, item))
CALL(value_key, (const tm_value *dict, size_t index, tm_value **key), (dict, index, key))
CALL(tensor_copy, (const void *data, tm_dtype dtype, const int64_t *shape, int32_t dimensions, tm_value **value),
     (data, dtype, shape, dimensions, NULL, value))
CALL(tensor_get_info, (const tm_value *value, tm_tensor_info *info), (value, info))
CALL(tensor_to_dtype, (const tm_value *value, tm_dtype dtype, tm_value **result), (value, dtype, result))
CALL(tensor_read, (const tm_value *value, void *buffer, size_t size), (value, buffer, size))

/* The example shape of an argument of forward; -1 dimensions behind the last one without a default. */
char *hs_example_shape(const tm_model *model, size_t index, int64_t *shape, int32_t *dimensions) {
  size_t count;
  tm_argument argument;
  tm_status status = tm_model_argument_count(model, "forward", &count);
  *dimensions = -1;
  if (status != TM_OK || index >= count) return message(status);
  status = tm_model_argument(model, "forward", index, &argument);
  if (status != TM_OK || argument.has_default) return message(status);
  return message(tm_model_example_shape(model, "forward", index, shape, dimensions));
}

/* Finalizers return nothing. */
void hs_free_model(tm_model *model) {
  tm_model_free(model);
}

void hs_free_value(tm_value *value) {
  tm_value_free(value);
}
