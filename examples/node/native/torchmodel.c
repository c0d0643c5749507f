/*
 * The addon of torchmodel.js: Node-API over the C API in .torchlink/capi.
 *
 * A model or value is an external, which torchmodel.js keeps in a private field. What it points to is freed by close(), or when the
 * external is garbage, but not while a call on a worker thread uses it.
 */
#include <node_api.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <torchmodel.h>

typedef struct {
  tm_model *model; /* of the two, the one that it is */
  tm_value *value;
  int64_t size;    /* of the elements, in bytes, as the garbage collector knows it */
  int uses;        /* calls on worker threads */
  bool closed, collected;
} handle;

/* ---- Errors ---- */

/* Throw a TorchError, which is what init() was given. */
static napi_value fail(napi_env env, tm_status status, const char *message) {
  napi_ref reference = NULL;
  napi_value class, error, arguments[2];
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (pending) return NULL;
  napi_get_instance_data(env, (void **)&reference);
  if (napi_create_string_utf8(env, message, NAPI_AUTO_LENGTH, &arguments[0]) == napi_ok &&
      napi_create_int32(env, status, &arguments[1]) == napi_ok && reference != NULL &&
      napi_get_reference_value(env, reference, &class) == napi_ok &&
      napi_new_instance(env, class, 2, arguments, &error) == napi_ok)
    napi_throw(env, error);
  else
    napi_throw_error(env, NULL, message);
  return NULL;
}

/* Return from a function of JavaScript with an exception where a call of the C API, or of Node, fails. */
#define TRY(call)                                                           \
  do {                                                                      \
    const tm_status status_ = (call);                                       \
    if (status_ != TM_OK) return fail(env, status_, tm_last_error());       \
  } while (0)
#define NODE(call)                                                                            \
  do {                                                                                        \
    if ((call) != napi_ok) return fail(env, TM_ERROR_ARGUMENT, "an argument is of a wrong type"); \
  } while (0)
#define ARGUMENTS(number)                                                  \
  napi_value arguments[number];                                            \
  size_t given = number;                                                   \
  NODE(napi_get_cb_info(env, info, &given, arguments, NULL, NULL));        \
  if (given < number) return fail(env, TM_ERROR_ARGUMENT, "an argument is missing")

/* ---- Handles ---- */

static void settle(handle *h) {
  if (h->uses > 0) return;
  if (h->closed || h->collected) {
    tm_model_free(h->model);
    tm_value_free(h->value);
    h->model = NULL;
    h->value = NULL;
  }
  if (h->collected) free(h);
}

static void forget_size(napi_env env, handle *h) {
  int64_t now;
  if (h->size > 0) napi_adjust_external_memory(env, -h->size, &now);
  h->size = 0;
}

static void collect(napi_env env, void *data, void *hint) {
  handle *h = data;
  (void)hint;
  forget_size(env, h);
  h->collected = true;
  settle(h);
}

static napi_value external(napi_env env, tm_model *model, tm_value *value) {
  handle *h = calloc(1, sizeof *h);
  napi_value result;
  tm_tensor_info info;
  tm_kind kind;
  int64_t now;
  if (h == NULL || napi_create_external(env, h, collect, NULL, &result) != napi_ok) {
    free(h);
    tm_model_free(model);
    tm_value_free(value);
    return fail(env, TM_ERROR_MEMORY, "out of memory");
  }
  h->model = model;
  h->value = value;
  /* JavaScript sees an object of a few bytes, not the elements behind it. */
  if (value != NULL && tm_value_kind(value, &kind) == TM_OK && kind == TM_TENSOR && tm_tensor_get_info(value, &info) == TM_OK) {
    h->size = info.elements * info.element_size;
    napi_adjust_external_memory(env, h->size, &now);
  }
  return result;
}

/* The handle in an external; null, with a pending exception, where it was closed. */
static handle *handle_of(napi_env env, napi_value value, bool is_model) {
  void *data;
  handle *h;
  napi_valuetype type;
  if (napi_typeof(env, value, &type) != napi_ok || type != napi_external || napi_get_value_external(env, value, &data) != napi_ok) {
    fail(env, TM_ERROR_ARGUMENT, is_model ? "not a model" : "not a value");
    return NULL;
  }
  h = data;
  if (h->closed || (is_model ? h->model == NULL : h->value == NULL)) {
    fail(env, TM_ERROR_ARGUMENT, is_model ? "the model is closed" : "the value is closed");
    return NULL;
  }
  return h;
}

#define MODEL(name, argument)                          \
  const handle *name = handle_of(env, argument, true); \
  if (name == NULL) return NULL
#define VALUE(name, argument)                           \
  const handle *name = handle_of(env, argument, false); \
  if (name == NULL) return NULL

static napi_value close_handle(napi_env env, napi_callback_info info) {
  void *data;
  ARGUMENTS(1);
  NODE(napi_get_value_external(env, arguments[0], &data));
  forget_size(env, data);
  ((handle *)data)->closed = true;
  settle(data);
  return NULL;
}

/* ---- Arguments from JavaScript ---- */

/* A string in UTF-8, to be freed; null, with a pending exception, where it is none. */
static char *text_of(napi_env env, napi_value value, size_t *size) {
  char *text = NULL;
  if (napi_get_value_string_utf8(env, value, NULL, 0, size) == napi_ok && (text = malloc(*size + 1)) != NULL)
    napi_get_value_string_utf8(env, value, text, *size + 1, size);
  else
    fail(env, TM_ERROR_ARGUMENT, "a string is expected");
  return text;
}

/* The handles in an array; null, with a pending exception, where one is none. An array of none is not null. */
static handle **handles_of(napi_env env, napi_value array, size_t *count) {
  uint32_t length, i;
  handle **handles;
  if (napi_get_array_length(env, array, &length) != napi_ok || (handles = malloc((length + 1) * sizeof *handles)) == NULL) {
    fail(env, TM_ERROR_ARGUMENT, "an array is expected");
    return NULL;
  }
  for (i = 0; i < length; ++i) {
    napi_value item;
    if (napi_get_element(env, array, i, &item) != napi_ok || (handles[i] = handle_of(env, item, false)) == NULL) {
      free(handles);
      return NULL;
    }
  }
  *count = length;
  return handles;
}

/* The same as pointers for the C API. */
static const tm_value **values_in(handle *const *handles, size_t count) {
  const tm_value **values = malloc((count + 1) * sizeof *values);
  size_t i;
  for (i = 0; values != NULL && i < count; ++i) values[i] = handles[i]->value;
  return values;
}

/* ---- Models ---- */

static napi_value load(napi_env env, napi_callback_info info) {
  char *path, *device;
  size_t size, path_size;
  tm_model *model;
  tm_status status;
  ARGUMENTS(2);
  if ((path = text_of(env, arguments[0], &path_size)) == NULL) return NULL;
  if ((device = text_of(env, arguments[1], &size)) == NULL) {
    free(path);
    return NULL;
  }
  if (strlen(path) != path_size) {
    free(path);
    free(device);
    return fail(env, TM_ERROR_ARGUMENT, "the path has a zero byte");
  }
  status = tm_model_load(path, device, &model);
  free(path);
  free(device);
  TRY(status);
  return external(env, model, NULL);
}

/* A shape for each argument of forward that has no default. */
static napi_value example_shapes(napi_env env, napi_callback_info info) {
  size_t count, i;
  napi_value shapes;
  ARGUMENTS(1);
  MODEL(model, arguments[0]);
  TRY(tm_model_argument_count(model->model, "forward", &count));
  NODE(napi_create_array(env, &shapes));
  for (i = 0; i < count; ++i) {
    tm_argument argument;
    int64_t shape[TM_MOST_DIMENSIONS];
    int32_t dimensions, d;
    napi_value sizes, size;
    TRY(tm_model_argument(model->model, "forward", i, &argument));
    if (argument.has_default) break;
    TRY(tm_model_example_shape(model->model, "forward", i, shape, &dimensions));
    NODE(napi_create_array(env, &sizes));
    for (d = 0; d < dimensions; ++d) {
      NODE(napi_create_int64(env, shape[d], &size));
      NODE(napi_set_element(env, sizes, (uint32_t)d, size));
    }
    NODE(napi_set_element(env, shapes, (uint32_t)i, sizes));
  }
  return shapes;
}

static napi_value forward_sync(napi_env env, napi_callback_info info) {
  handle **handles;
  const tm_value **values;
  size_t count;
  tm_value *result;
  tm_status status = TM_ERROR_MEMORY;
  ARGUMENTS(2);
  MODEL(model, arguments[0]);
  if ((handles = handles_of(env, arguments[1], &count)) == NULL) return NULL;
  values = values_in(handles, count);
  if (values != NULL) status = tm_model_forward(model->model, values, count, &result);
  free(values);
  free(handles);
  TRY(status);
  return external(env, NULL, result);
}

/* A call on a worker thread. */
typedef struct {
  napi_async_work work;
  napi_deferred deferred;
  handle *model, **handles;
  const tm_value **values;
  size_t count;
  tm_value *result;
  tm_status status;
  char *message;
} job;

static void execute(napi_env env, void *data) {
  job *j = data;
  (void)env;
  j->status = tm_model_forward(j->model->model, j->values, j->count, &j->result);
  if (j->status != TM_OK) {
    const char *message = tm_last_error(); /* of this thread */
    if ((j->message = malloc(strlen(message) + 1)) != NULL) strcpy(j->message, message);
  }
}

/* Back on the thread of JavaScript. */
static void complete(napi_env env, napi_status done, void *data) {
  job *j = data;
  napi_value outcome = NULL;
  size_t i;
  if (done != napi_ok)
    fail(env, TM_ERROR_MODEL, "the call was cancelled");
  else if (j->status != TM_OK)
    fail(env, j->status, j->message != NULL ? j->message : "out of memory");
  else
    outcome = external(env, NULL, j->result);
  if (outcome != NULL)
    napi_resolve_deferred(env, j->deferred, outcome);
  else if (napi_get_and_clear_last_exception(env, &outcome) == napi_ok)
    napi_reject_deferred(env, j->deferred, outcome);
  for (i = 0; i < j->count; ++i) {
    --j->handles[i]->uses;
    settle(j->handles[i]);
  }
  --j->model->uses;
  settle(j->model);
  napi_delete_async_work(env, j->work);
  free(j->handles);
  free(j->values);
  free(j->message);
  free(j);
}

static napi_value forward(napi_env env, napi_callback_info info) {
  napi_value promise, name;
  job *j;
  size_t i;
  ARGUMENTS(2);
  MODEL(model, arguments[0]);
  if ((j = calloc(1, sizeof *j)) == NULL) return fail(env, TM_ERROR_MEMORY, "out of memory");
  j->model = (handle *)model;
  j->handles = handles_of(env, arguments[1], &j->count);
  if (j->handles == NULL || (j->values = values_in(j->handles, j->count)) == NULL ||
      napi_create_promise(env, &j->deferred, &promise) != napi_ok ||
      napi_create_string_utf8(env, "forward", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_async_work(env, NULL, name, execute, complete, j, &j->work) != napi_ok ||
      napi_queue_async_work(env, j->work) != napi_ok) {
    if (j->work != NULL) napi_delete_async_work(env, j->work);
    free(j->handles);
    free(j->values);
    free(j);
    return fail(env, TM_ERROR_MEMORY, "the call could not be queued");
  }
  ++j->model->uses;
  for (i = 0; i < j->count; ++i) ++j->handles[i]->uses;
  return promise;
}

/* ---- Values ---- */

static napi_value none(napi_env env, napi_callback_info info) {
  tm_value *value;
  (void)info;
  TRY(tm_value_none(&value));
  return external(env, NULL, value);
}

static napi_value boolean(napi_env env, napi_callback_info info) {
  bool given_boolean;
  tm_value *value;
  ARGUMENTS(1);
  NODE(napi_get_value_bool(env, arguments[0], &given_boolean));
  TRY(tm_value_bool(given_boolean, &value));
  return external(env, NULL, value);
}

/* From a BigInt. */
static napi_value integer(napi_env env, napi_callback_info info) {
  int64_t number;
  bool whole;
  tm_value *value;
  ARGUMENTS(1);
  NODE(napi_get_value_bigint_int64(env, arguments[0], &number, &whole));
  if (!whole) return fail(env, TM_ERROR_ARGUMENT, "the integer does not fit into 64 bits");
  TRY(tm_value_int(number, &value));
  return external(env, NULL, value);
}

static napi_value real(napi_env env, napi_callback_info info) {
  double number;
  tm_value *value;
  ARGUMENTS(1);
  NODE(napi_get_value_double(env, arguments[0], &number));
  TRY(tm_value_float(number, &value));
  return external(env, NULL, value);
}

static napi_value string(napi_env env, napi_callback_info info) {
  char *text;
  size_t size;
  tm_value *value;
  tm_status status;
  ARGUMENTS(1);
  if ((text = text_of(env, arguments[0], &size)) == NULL) return NULL;
  status = tm_value_string(text, size, &value);
  free(text);
  TRY(status);
  return external(env, NULL, value);
}

static napi_value sequence(napi_env env, napi_callback_info info, tm_status (*make)(const tm_value *const *, size_t, tm_value **)) {
  handle **handles;
  const tm_value **values;
  size_t count;
  tm_value *value;
  tm_status status = TM_ERROR_MEMORY;
  ARGUMENTS(1);
  if ((handles = handles_of(env, arguments[0], &count)) == NULL) return NULL;
  values = values_in(handles, count);
  if (values != NULL) status = make(values, count, &value);
  free(values);
  free(handles);
  TRY(status);
  return external(env, NULL, value);
}

static napi_value list(napi_env env, napi_callback_info info) {
  return sequence(env, info, tm_value_list);
}

static napi_value tuple(napi_env env, napi_callback_info info) {
  return sequence(env, info, tm_value_tuple);
}

static napi_value dict(napi_env env, napi_callback_info info) {
  tm_value *value;
  (void)info;
  TRY(tm_value_dict(&value));
  return external(env, NULL, value);
}

static napi_value dict_set(napi_env env, napi_callback_info info) {
  ARGUMENTS(3);
  VALUE(table, arguments[0]);
  VALUE(key, arguments[1]);
  VALUE(item, arguments[2]);
  TRY(tm_value_dict_set(table->value, key->value, item->value));
  return NULL;
}

static napi_value kind(napi_env env, napi_callback_info info) {
  tm_kind number;
  napi_value result;
  ARGUMENTS(1);
  VALUE(value, arguments[0]);
  TRY(tm_value_kind(value->value, &number));
  NODE(napi_create_int32(env, number, &result));
  return result;
}

/* A value of one as JavaScript's own: a boolean, BigInt, number, string, or the two numbers of a complex one. */
static napi_value scalar(napi_env env, napi_callback_info info) {
  tm_kind number;
  napi_value result = NULL, part;
  ARGUMENTS(1);
  VALUE(value, arguments[0]);
  TRY(tm_value_kind(value->value, &number));
  if (number == TM_BOOL) {
    int32_t truth;
    TRY(tm_value_get_bool(value->value, &truth));
    NODE(napi_get_boolean(env, truth != 0, &result));
  } else if (number == TM_INT) {
    int64_t whole;
    TRY(tm_value_get_int(value->value, &whole));
    NODE(napi_create_bigint_int64(env, whole, &result));
  } else if (number == TM_FLOAT) {
    double fraction;
    TRY(tm_value_get_float(value->value, &fraction));
    NODE(napi_create_double(env, fraction, &result));
  } else if (number == TM_COMPLEX) {
    double parts[2];
    uint32_t i;
    TRY(tm_value_get_complex(value->value, &parts[0], &parts[1]));
    NODE(napi_create_array_with_length(env, 2, &result));
    for (i = 0; i < 2; ++i) {
      NODE(napi_create_double(env, parts[i], &part));
      NODE(napi_set_element(env, result, i, part));
    }
  } else {
    const char *text;
    size_t size;
    TRY(tm_value_get_string(value->value, &text, &size));
    NODE(napi_create_string_utf8(env, text, size, &result));
  }
  return result;
}

/* The items, or the keys, of a list, tuple or dict. */
static napi_value each(napi_env env, napi_callback_info info, tm_status (*read)(const tm_value *, size_t, tm_value **)) {
  size_t length, i;
  napi_value items, item;
  ARGUMENTS(1);
  VALUE(value, arguments[0]);
  TRY(tm_value_length(value->value, &length));
  NODE(napi_create_array(env, &items));
  for (i = 0; i < length; ++i) {
    tm_value *one;
    TRY(read(value->value, i, &one));
    if ((item = external(env, NULL, one)) == NULL) return NULL;
    NODE(napi_set_element(env, items, (uint32_t)i, item));
  }
  return items;
}

static napi_value items(napi_env env, napi_callback_info info) {
  return each(env, info, tm_value_item);
}

static napi_value keys(napi_env env, napi_callback_info info) {
  return each(env, info, tm_value_key);
}

/* ---- Tensors ---- */

/* A copy of a typed array: its ArrayBuffer view, the dtype of its elements, and the shape, which torchmodel.js has checked. */
static napi_value tensor(napi_env env, napi_callback_info info) {
  napi_typedarray_type type;
  size_t length;
  void *data;
  int32_t dtype;
  uint32_t dimensions, d;
  int64_t shape[TM_MOST_DIMENSIONS];
  tm_value *value;
  ARGUMENTS(3);
  NODE(napi_get_typedarray_info(env, arguments[0], &type, &length, &data, NULL, NULL));
  NODE(napi_get_value_int32(env, arguments[1], &dtype));
  NODE(napi_get_array_length(env, arguments[2], &dimensions));
  if (dimensions > TM_MOST_DIMENSIONS) return fail(env, TM_ERROR_ARGUMENT, "the tensor has more than 64 dimensions");
  for (d = 0; d < dimensions; ++d) {
    napi_value size;
    NODE(napi_get_element(env, arguments[2], d, &size));
    NODE(napi_get_value_int64(env, size, &shape[d]));
  }
  TRY(tm_tensor_copy(data, dtype, shape, (int32_t)dimensions, NULL, &value));
  return external(env, NULL, value);
}

static napi_value shape(napi_env env, napi_callback_info info) {
  tm_tensor_info tensor_info;
  napi_value sizes, size;
  int32_t d;
  ARGUMENTS(1);
  VALUE(value, arguments[0]);
  TRY(tm_tensor_get_info(value->value, &tensor_info));
  NODE(napi_create_array(env, &sizes));
  for (d = 0; d < tensor_info.dimensions; ++d) {
    NODE(napi_create_int64(env, tensor_info.shape[d], &size));
    NODE(napi_set_element(env, sizes, (uint32_t)d, size));
  }
  return sizes;
}

/* An ArrayBuffer with the elements, converted to a dtype. */
static napi_value elements(napi_env env, napi_callback_info info) {
  int32_t dtype;
  tm_value *converted;
  tm_tensor_info tensor_info;
  tm_status status;
  void *data;
  size_t size;
  napi_value buffer;
  ARGUMENTS(2);
  VALUE(value, arguments[0]);
  NODE(napi_get_value_int32(env, arguments[1], &dtype));
  TRY(tm_tensor_to_dtype(value->value, dtype, &converted));
  status = tm_tensor_get_info(converted, &tensor_info);
  if (status == TM_OK) {
    size = (size_t)tensor_info.elements * (size_t)tensor_info.element_size;
    if (napi_create_arraybuffer(env, size, &data, &buffer) != napi_ok) {
      tm_value_free(converted);
      return fail(env, TM_ERROR_MEMORY, "out of memory");
    }
    if (size > 0) status = tm_tensor_read(converted, data, size);
  }
  tm_value_free(converted);
  TRY(status);
  return buffer;
}

/* ---- The module ---- */

static void drop_class(napi_env env, void *data, void *hint) {
  (void)hint;
  napi_delete_reference(env, data);
}

/* init(TorchError) */
static napi_value init(napi_env env, napi_callback_info info) {
  napi_ref reference;
  ARGUMENTS(1);
  NODE(napi_create_reference(env, arguments[0], 1, &reference));
  NODE(napi_set_instance_data(env, reference, drop_class, NULL));
  return NULL;
}

NAPI_MODULE_INIT() {
  static const struct {
    const char *name;
    napi_callback function;
  } functions[] = {
      {"init", init},       {"close", close_handle}, {"load", load},     {"exampleShapes", example_shapes},
      {"forward", forward}, {"forwardSync", forward_sync}, {"none", none}, {"boolean", boolean},
      {"integer", integer}, {"real", real},          {"string", string}, {"list", list},
      {"tuple", tuple},     {"dict", dict},          {"dictSet", dict_set}, {"kind", kind},
      {"scalar", scalar},   {"items", items},        {"keys", keys},     {"tensor", tensor},
      {"shape", shape},     {"elements", elements},
  };
  size_t i;
  for (i = 0; i < sizeof functions / sizeof *functions; ++i) {
    napi_value function;
    NODE(napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].function, NULL, &function));
    NODE(napi_set_named_property(env, exports, functions[i].name, function));
  }
  return exports;
}
