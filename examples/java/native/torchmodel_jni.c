/* What torchmodel.Native declares, over the C API. A handle is a jlong; a failure is a pending TorchException. */
#include <jni.h>
#include <stdlib.h>
#include <torchmodel.h>

#define NATIVE(type, name) JNIEXPORT type JNICALL Java_torchmodel_Native_##name
#define MODEL(handle) ((tm_model *)(intptr_t)(handle))
#define VALUE(handle) ((tm_value *)(intptr_t)(handle))
#define HANDLE(pointer) ((jlong)(intptr_t)(pointer))

/* 1 where the call succeeded; otherwise an exception is pending. */
static int succeeded(JNIEnv *env, tm_status status) {
  if (status != TM_OK) (*env)->ThrowNew(env, (*env)->FindClass(env, "torchmodel/TorchException"), tm_last_error());
  return status == TM_OK;
}

/* The values of an array of handles; null where memory is short or the array is empty. */
static tm_value **values_of(JNIEnv *env, jlongArray handles, jsize *count) {
  tm_value **values = NULL;
  jlong *numbers = (*env)->GetLongArrayElements(env, handles, NULL);
  jsize i;
  *count = (*env)->GetArrayLength(env, handles);
  if (numbers != NULL && *count > 0) values = malloc((size_t)*count * sizeof *values);
  if (values == NULL) *count = 0;
  for (i = 0; i < *count; ++i) values[i] = VALUE(numbers[i]);
  if (numbers != NULL) (*env)->ReleaseLongArrayElements(env, handles, numbers, JNI_ABORT);
  return values;
}

/* UTF-8 with a terminating zero comes from Java: JNI's own strings are not UTF-8. */
static char *bytes_of(JNIEnv *env, jbyteArray bytes) {
  const jsize size = (*env)->GetArrayLength(env, bytes);
  char *text = calloc((size_t)size + 1, 1);
  if (text != NULL) (*env)->GetByteArrayRegion(env, bytes, 0, size, (jbyte *)text);
  return text;
}

NATIVE(jlong, load)(JNIEnv *env, jclass self, jbyteArray path, jbyteArray device) {
  char *file = bytes_of(env, path), *where = bytes_of(env, device);
  tm_model *model = NULL;
  (void)self;
  succeeded(env, tm_model_load(file, where, &model));
  free(file);
  free(where);
  return HANDLE(model);
}

NATIVE(void, freeModel)(JNIEnv *env, jclass self, jlong model) {
  (void)env, (void)self;
  tm_model_free(MODEL(model));
}

NATIVE(void, freeValue)(JNIEnv *env, jclass self, jlong value) {
  (void)env, (void)self;
  tm_value_free(VALUE(value));
}

NATIVE(jlong, forward)(JNIEnv *env, jclass self, jlong model, jlongArray arguments) {
  jsize count;
  tm_value **values = values_of(env, arguments, &count), *result = NULL;
  (void)self;
  succeeded(env, tm_model_forward(MODEL(model), (const tm_value *const *)values, (size_t)count, &result));
  free(values);
  return HANDLE(result);
}

/* The example shape of an argument; null behind the last one without a default. */
NATIVE(jlongArray, exampleShape)(JNIEnv *env, jclass self, jlong model, jint index) {
  size_t count;
  tm_argument argument;
  int64_t shape[TM_MOST_DIMENSIONS];
  jlong sizes[TM_MOST_DIMENSIONS];
  int32_t dimensions, i;
  jlongArray result;
  (void)self;
  if (!succeeded(env, tm_model_argument_count(MODEL(model), "forward", &count)) || (size_t)index >= count) return NULL;
  if (!succeeded(env, tm_model_argument(MODEL(model), "forward", (size_t)index, &argument)) || argument.has_default) return NULL;
  if (!succeeded(env, tm_model_example_shape(MODEL(model), "forward", (size_t)index, shape, &dimensions))) return NULL;
  for (i = 0; i < dimensions; ++i) sizes[i] = shape[i];
  result = (*env)->NewLongArray(env, dimensions);
  if (result != NULL) (*env)->SetLongArrayRegion(env, result, 0, dimensions, sizes);
  return result;
}

/* A tensor of the numbers in a primitive array; `dtype` says of which type they are. */
NATIVE(jlong, tensor)(JNIEnv *env, jclass self, jarray data, jint dtype, jlongArray shape) {
  tm_value *value = NULL;
  tm_status status;
  const jsize dimensions = (*env)->GetArrayLength(env, shape);
  int64_t sizes[TM_MOST_DIMENSIONS];
  void *numbers;
  (void)self;
  if (dimensions > TM_MOST_DIMENSIONS) return 0; /* checked in Java */
  (*env)->GetLongArrayRegion(env, shape, 0, dimensions, (jlong *)sizes);
  numbers = (*env)->GetPrimitiveArrayCritical(env, data, NULL);
  if (numbers == NULL) return 0; /* an OutOfMemoryError is pending */
  status = tm_tensor_copy(numbers, dtype, sizes, dimensions, NULL, &value);
  (*env)->ReleasePrimitiveArrayCritical(env, data, numbers, JNI_ABORT);
  succeeded(env, status);
  return HANDLE(value);
}

NATIVE(jlong, string)(JNIEnv *env, jclass self, jbyteArray bytes) {
  tm_value *value = NULL;
  char *text = bytes_of(env, bytes);
  (void)self;
  succeeded(env, tm_value_string(text, (size_t)(*env)->GetArrayLength(env, bytes), &value));
  free(text);
  return HANDLE(value);
}

NATIVE(jlong, number)(JNIEnv *env, jclass self, jlong number) {
  tm_value *value = NULL;
  (void)self;
  succeeded(env, tm_value_int(number, &value));
  return HANDLE(value);
}

NATIVE(jlong, real)(JNIEnv *env, jclass self, jdouble number) {
  tm_value *value = NULL;
  (void)self;
  succeeded(env, tm_value_float(number, &value));
  return HANDLE(value);
}

NATIVE(jlong, bool)(JNIEnv *env, jclass self, jboolean boolean) {
  tm_value *value = NULL;
  (void)self;
  succeeded(env, tm_value_bool(boolean, &value));
  return HANDLE(value);
}

NATIVE(jlong, list)(JNIEnv *env, jclass self, jlongArray items) {
  jsize count;
  tm_value **values = values_of(env, items, &count), *value = NULL;
  (void)self;
  succeeded(env, tm_value_list((const tm_value *const *)values, (size_t)count, &value));
  free(values);
  return HANDLE(value);
}

NATIVE(jint, kind)(JNIEnv *env, jclass self, jlong value) {
  tm_kind kind = TM_OTHER;
  (void)self;
  succeeded(env, tm_value_kind(VALUE(value), &kind));
  return kind;
}

NATIVE(jboolean, asBool)(JNIEnv *env, jclass self, jlong value) {
  int32_t boolean = 0;
  (void)self;
  succeeded(env, tm_value_get_bool(VALUE(value), &boolean));
  return (jboolean)(boolean != 0);
}

NATIVE(jlong, asInt)(JNIEnv *env, jclass self, jlong value) {
  int64_t number = 0;
  (void)self;
  succeeded(env, tm_value_get_int(VALUE(value), &number));
  return number;
}

NATIVE(jdouble, asFloat)(JNIEnv *env, jclass self, jlong value) {
  double number = 0;
  (void)self;
  succeeded(env, tm_value_get_float(VALUE(value), &number));
  return number;
}

NATIVE(jbyteArray, asString)(JNIEnv *env, jclass self, jlong value) {
  const char *text;
  size_t size;
  jbyteArray bytes;
  (void)self;
  if (!succeeded(env, tm_value_get_string(VALUE(value), &text, &size))) return NULL;
  bytes = (*env)->NewByteArray(env, (jsize)size);
  if (bytes != NULL) (*env)->SetByteArrayRegion(env, bytes, 0, (jsize)size, (const jbyte *)text);
  return bytes;
}

NATIVE(jlong, length)(JNIEnv *env, jclass self, jlong value) {
  size_t length = 0;
  (void)self;
  succeeded(env, tm_value_length(VALUE(value), &length));
  return (jlong)length;
}

NATIVE(jlong, item)(JNIEnv *env, jclass self, jlong value, jlong index) {
  tm_value *item = NULL;
  (void)self;
  succeeded(env, tm_value_item(VALUE(value), (size_t)index, &item));
  return HANDLE(item);
}

NATIVE(jlong, key)(JNIEnv *env, jclass self, jlong dict, jlong index) {
  tm_value *key = NULL;
  (void)self;
  succeeded(env, tm_value_key(VALUE(dict), (size_t)index, &key));
  return HANDLE(key);
}

NATIVE(jlongArray, shape)(JNIEnv *env, jclass self, jlong value) {
  tm_tensor_info info;
  jlongArray shape;
  (void)self;
  if (!succeeded(env, tm_tensor_get_info(VALUE(value), &info))) return NULL;
  shape = (*env)->NewLongArray(env, info.dimensions);
  if (shape != NULL) (*env)->SetLongArrayRegion(env, shape, 0, info.dimensions, (const jlong *)info.shape);
  return shape;
}

NATIVE(jlong, converted)(JNIEnv *env, jclass self, jlong value, jint dtype) {
  tm_value *result = NULL;
  (void)self;
  succeeded(env, tm_tensor_to_dtype(VALUE(value), dtype, &result));
  return HANDLE(result);
}

/* Copies the elements to a primitive array of the tensor's own dtype. */
NATIVE(void, read)(JNIEnv *env, jclass self, jlong value, jarray into, jlong bytes) {
  tm_status status;
  void *buffer = (*env)->GetPrimitiveArrayCritical(env, into, NULL);
  (void)self;
  if (buffer == NULL) return;
  status = tm_tensor_read(VALUE(value), buffer, (size_t)bytes);
  (*env)->ReleasePrimitiveArrayCritical(env, into, buffer, 0);
  succeeded(env, status);
}
