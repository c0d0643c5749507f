/* What torchmodel.ml declares as external, over the C API. A failure becomes the exception Torchmodel.Error. */
#define CAML_NAME_SPACE
#include <stdlib.h>
#include <string.h>

#include <caml/alloc.h>
#include <caml/bigarray.h>
#include <caml/callback.h>
#include <caml/custom.h>
#include <caml/fail.h>
#include <caml/memory.h>
#include <caml/mlvalues.h>
#include <caml/threads.h>

#include <torchmodel.h>

static void fail(tm_status status, const char *message) {
  CAMLparam0();
  CAMLlocal1(text);
  text = caml_copy_string(message);
  value arguments[2] = {Val_int(status), text};
  caml_raise_with_args(*caml_named_value("torchmodel.Error"), 2, arguments);
  CAMLreturn0;
}

static void check(tm_status status) {
  if (status != TM_OK) fail(status, tm_last_error());
}

/* ---- Handles: blocks of OCaml's heap with one pointer, which the garbage collector finalizes ---- */

#define handle_in(block) (*(void **)Data_custom_val(block))

static void finalize_model(value block) { tm_model_free(handle_in(block)); }
static void finalize_value(value block) { tm_value_free(handle_in(block)); }

static struct custom_operations model_operations = {
    "torchmodel.model",       finalize_model,           custom_compare_default,     custom_hash_default,
    custom_serialize_default, custom_deserialize_default, custom_compare_ext_default, custom_fixed_length_default};
static struct custom_operations value_operations = {
    "torchmodel.value",       finalize_value,           custom_compare_default,     custom_hash_default,
    custom_serialize_default, custom_deserialize_default, custom_compare_ext_default, custom_fixed_length_default};

static value new_value(tm_value *handle) {
  tm_tensor_info info;
  mlsize_t bytes = 512; /* of a handle, about: what the garbage collector counts it as */
  if (tm_tensor_get_info(handle, &info) == TM_OK) bytes += (mlsize_t)info.elements * (mlsize_t)info.element_size;
  value block = caml_alloc_custom_mem(&value_operations, sizeof(void *), bytes);
  handle_in(block) = handle;
  return block;
}

static void *open_handle(value block) {
  if (!handle_in(block)) fail(TM_ERROR_ARGUMENT, "the value was freed");
  return handle_in(block);
}

value torchmodel_value_free(value block) {
  tm_value_free(handle_in(block));
  handle_in(block) = NULL;
  return Val_unit;
}

value torchmodel_model_free(value block) {
  tm_model_free(handle_in(block));
  handle_in(block) = NULL;
  return Val_unit;
}

/* The handles of an array, which the caller frees. */
static const tm_value **handles_of(value array) {
  mlsize_t count = Wosize_val(array);
  for (mlsize_t i = 0; i < count; i++) open_handle(Field(array, i));
  const tm_value **handles = malloc((count + 1) * sizeof *handles);
  if (!handles) caml_raise_out_of_memory();
  for (mlsize_t i = 0; i < count; i++) handles[i] = handle_in(Field(array, i));
  return handles;
}

/* ---- Models. Loads and calls let other threads run OCaml. ---- */

value torchmodel_load(value path, value device) {
  CAMLparam2(path, device);
  if (!caml_string_is_c_safe(path)) fail(TM_ERROR_FILE, "the path has a zero byte");
  char *file = strdup(String_val(path)), *place = strdup(String_val(device));
  tm_model *model = NULL;
  if (!file || !place) caml_raise_out_of_memory();
  caml_release_runtime_system();
  tm_status status = tm_model_load(file, place, &model);
  caml_acquire_runtime_system();
  free(file);
  free(place);
  check(status);
  value block = caml_alloc_custom(&model_operations, sizeof(void *), 0, 1);
  handle_in(block) = model;
  CAMLreturn(block);
}

value torchmodel_forward(value model, value arguments) {
  CAMLparam2(model, arguments);
  const tm_model *called = open_handle(model);
  const tm_value **handles = handles_of(arguments);
  tm_value *result = NULL;
  caml_release_runtime_system();
  tm_status status = tm_model_forward(called, handles, Wosize_val(arguments), &result);
  caml_acquire_runtime_system();
  free(handles);
  check(status);
  CAMLreturn(new_value(result));
}

/* How many arguments of forward have no default. */
value torchmodel_inputs(value model) {
  CAMLparam1(model);
  size_t count, index = 0;
  check(tm_model_argument_count(open_handle(model), "forward", &count));
  for (; index < count; index++) {
    tm_argument argument;
    check(tm_model_argument(open_handle(model), "forward", index, &argument));
    if (argument.has_default) break;
  }
  CAMLreturn(Val_long(index));
}

static value array_of(const int64_t *numbers, int32_t count) {
  value array = caml_alloc(count, 0); /* of immediate numbers: no barriers are needed */
  for (int32_t i = 0; i < count; i++) Store_field(array, i, Val_long(numbers[i]));
  return array;
}

value torchmodel_example_shape(value model, value index) {
  CAMLparam2(model, index);
  int64_t shape[TM_MOST_DIMENSIONS];
  int32_t dimensions;
  check(tm_model_example_shape(open_handle(model), "forward", Long_val(index), shape, &dimensions));
  CAMLreturn(array_of(shape, dimensions));
}

/* ---- Values ---- */

static value made(tm_status status, tm_value *handle) {
  check(status);
  return new_value(handle);
}

value torchmodel_none(value unit) {
  tm_value *handle;
  (void)unit;
  tm_status status = tm_value_none(&handle);
  return made(status, handle);
}

value torchmodel_bool(value boolean) {
  tm_value *handle;
  tm_status status = tm_value_bool(Bool_val(boolean), &handle);
  return made(status, handle);
}

value torchmodel_int(value number) {
  tm_value *handle;
  tm_status status = tm_value_int(Long_val(number), &handle);
  return made(status, handle);
}

value torchmodel_float(value number) {
  tm_value *handle;
  tm_status status = tm_value_float(Double_val(number), &handle);
  return made(status, handle);
}

value torchmodel_string(value text) {
  tm_value *handle;
  tm_status status = tm_value_string(String_val(text), caml_string_length(text), &handle);
  return made(status, handle);
}

value torchmodel_list(value items) {
  CAMLparam1(items);
  tm_value *handle = NULL;
  const tm_value **handles = handles_of(items);
  tm_status status = tm_value_list(handles, Wosize_val(items), &handle);
  free(handles);
  CAMLreturn(made(status, handle));
}

value torchmodel_kind(value block) {
  CAMLparam1(block);
  tm_kind kind;
  check(tm_value_kind(open_handle(block), &kind));
  CAMLreturn(Val_int(kind));
}

value torchmodel_to_bool(value block) {
  CAMLparam1(block);
  int32_t boolean;
  check(tm_value_get_bool(open_handle(block), &boolean));
  CAMLreturn(Val_bool(boolean));
}

value torchmodel_to_int(value block) {
  CAMLparam1(block);
  int64_t number;
  check(tm_value_get_int(open_handle(block), &number));
  if (number > Max_long || number < Min_long) fail(TM_ERROR_TYPE, "the number has more bits than OCaml's int");
  CAMLreturn(Val_long(number));
}

value torchmodel_to_float(value block) {
  CAMLparam1(block);
  double number;
  check(tm_value_get_float(open_handle(block), &number));
  CAMLreturn(caml_copy_double(number));
}

value torchmodel_to_string(value block) {
  CAMLparam1(block);
  const char *text;
  size_t size;
  check(tm_value_get_string(open_handle(block), &text, &size));
  CAMLreturn(caml_alloc_initialized_string(size, text));
}

value torchmodel_length(value block) {
  CAMLparam1(block);
  size_t length;
  check(tm_value_length(open_handle(block), &length));
  CAMLreturn(Val_long(length));
}

value torchmodel_item(value block, value index) {
  CAMLparam2(block, index);
  tm_value *handle;
  tm_status status = tm_value_item(open_handle(block), Long_val(index), &handle);
  CAMLreturn(made(status, handle));
}

value torchmodel_key(value block, value index) {
  CAMLparam2(block, index);
  tm_value *handle;
  tm_status status = tm_value_key(open_handle(block), Long_val(index), &handle);
  CAMLreturn(made(status, handle));
}

/* ---- Tensors ---- */

static tm_dtype dtype_of(value bigarray) {
  switch (Caml_ba_array_val(bigarray)->flags & CAML_BA_KIND_MASK) {
    case CAML_BA_FLOAT32: return TM_FLOAT32;
    case CAML_BA_FLOAT64: return TM_FLOAT64;
    case CAML_BA_SINT8: return TM_INT8;
    case CAML_BA_UINT8:
    case CAML_BA_CHAR: return TM_UINT8;
    case CAML_BA_SINT16: return TM_INT16;
    case CAML_BA_UINT16: return TM_UINT16;
    case CAML_BA_INT32: return TM_INT32;
    case CAML_BA_INT64: return TM_INT64;
    case CAML_BA_CAML_INT:
    case CAML_BA_NATIVE_INT: return sizeof(intnat) == 8 ? TM_INT64 : TM_INT32;
    case CAML_BA_COMPLEX32: return TM_COMPLEX64; /* torch names the two numbers' size, OCaml one's */
    case CAML_BA_COMPLEX64: return TM_COMPLEX128;
    default: return -1; /* the C API says that it is no dtype */
  }
}

value torchmodel_of_bigarray(value bigarray) {
  CAMLparam1(bigarray);
  struct caml_ba_array *array = Caml_ba_array_val(bigarray);
  int64_t shape[CAML_BA_MAX_NUM_DIMS + 1];
  tm_value *handle = NULL;
  for (intnat i = 0; i < array->num_dims; i++) shape[i] = array->dim[i];
  tm_status status = tm_tensor_copy(array->data, dtype_of(bigarray), shape, (int32_t)array->num_dims, NULL, &handle);
  CAMLreturn(made(status, handle));
}

value torchmodel_shape(value block) {
  CAMLparam1(block);
  tm_tensor_info info;
  check(tm_tensor_get_info(open_handle(block), &info));
  CAMLreturn(array_of(info.shape, info.dimensions));
}

/* Fill an array that has as many elements as the tensor. */
value torchmodel_read(value block, value bigarray) {
  CAMLparam2(block, bigarray);
  tm_value *converted = NULL;
  check(tm_tensor_to_dtype(open_handle(block), dtype_of(bigarray), &converted));
  tm_status status = tm_tensor_read(converted, Caml_ba_data_val(bigarray), caml_ba_byte_size(Caml_ba_array_val(bigarray)));
  tm_value_free(converted); /* leaves the message of a failure as it is */
  check(status);
  CAMLreturn(Val_unit);
}
