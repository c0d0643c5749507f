/*
 * The functions of torchmodel.h for AOTInductor packages (.pt2), in C alone: over the `aoti_torch_*` functions that
 * libtorch_cpu.so exports (torch/csrc/inductor/aoti_torch/c/shim.h) and those that every package's library exports
 * (torch/csrc/inductor/aoti_runtime/interface.h). One file: compile it with any C compiler, link -ltorch_cpu -lc10.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* dladdr, mkdtemp */
#endif
#include "torchmodel.h"

#include <ctype.h>
#include <dirent.h>
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef TM_LIBTORCH_VERSION
#define TM_LIBTORCH_VERSION "" /* -DTM_LIBTORCH_VERSION='"2.13.0"' */
#endif

/* ---- What libtorch exports ---- */

typedef struct AtenTensorOpaque *Tensor;
extern int32_t aoti_torch_device_type_cpu(void);
extern int32_t aoti_torch_layout_strided(void);
extern int32_t aoti_torch_delete_tensor_object(Tensor tensor);
extern int32_t aoti_torch_get_data_ptr(Tensor tensor, void **data);
extern int32_t aoti_torch_get_dim(Tensor tensor, int64_t *dimensions);
extern int32_t aoti_torch_get_numel(Tensor tensor, int64_t *elements);
extern int32_t aoti_torch_get_sizes(Tensor tensor, int64_t **sizes);
extern int32_t aoti_torch_get_strides(Tensor tensor, int64_t **strides);
extern int32_t aoti_torch_get_dtype(Tensor tensor, int32_t *dtype);
extern int32_t aoti_torch_get_device_type(Tensor tensor, int32_t *type);
extern int32_t aoti_torch_empty_strided(int64_t dimensions, const int64_t *sizes, const int64_t *strides, int32_t dtype,
                                        int32_t device_type, int32_t device_index, Tensor *tensor);
extern int32_t aoti_torch_create_tensor_from_blob(void *data, int64_t dimensions, const int64_t *sizes,
                                                  const int64_t *strides, int64_t offset, int32_t dtype,
                                                  int32_t device_type, int32_t device_index, Tensor *tensor);
extern int32_t aoti_torch_copy_(Tensor self, Tensor source, int32_t non_blocking);
extern int32_t aoti_torch_assign_tensors_out(Tensor original, Tensor *handle);

/* Null in the first libtorchs that load packages: 2.6 lacks all, 2.7 the first three, 2.8 the first. */
#define SINCE_LATER __attribute__((weak))
extern SINCE_LATER int32_t aoti_torch_get_layout(Tensor tensor, int32_t *layout);
extern SINCE_LATER size_t aoti_torch_dtype_element_size(int32_t dtype);
extern SINCE_LATER int32_t aoti_torch_device_type_meta(void);
extern SINCE_LATER int32_t aoti_torch_new_tensor_handle(Tensor original, Tensor *handle);

static size_t bytes_of(tm_dtype dtype) {
  static const unsigned char sizes[] = {1, 1, 2, 4, 8, 2, 4, 8, 4, 8, 16, 1};
  if (dtype >= 0 && dtype <= TM_BOOL8) return sizes[dtype];
  if (dtype == TM_BFLOAT16) return 2;
  if (dtype >= TM_UINT16 && dtype <= TM_UINT64) return (size_t)2 << (dtype - TM_UINT16);
  return aoti_torch_dtype_element_size != NULL ? aoti_torch_dtype_element_size(dtype) : 1;
}

static int32_t meta_device(void) {
  return aoti_torch_device_type_meta != NULL ? aoti_torch_device_type_meta() : 14; /* c10::DeviceType::Meta */
}

static int32_t another_handle(Tensor original, Tensor *handle) {
  if (aoti_torch_new_tensor_handle != NULL) return aoti_torch_new_tensor_handle(original, handle);
  return aoti_torch_assign_tensors_out(original, handle);
}

/* ---- What a package's library exports ---- */

typedef struct Container Container;
typedef struct Functions {
  int32_t (*create)(Container **, size_t models, const char *device, const char *directory);
  int32_t (*destroy)(Container *);
  int32_t (*run)(Container *, Tensor *inputs, size_t, Tensor *outputs, size_t, void *stream, void *executor);
  int32_t (*input_count)(Container *, size_t *);
  int32_t (*output_count)(Container *, size_t *);
  int32_t (*call_spec)(Container *, const char **in, const char **out);
  int32_t (*last_error)(const char **); /* null in packages of an older libtorch */
} Functions;

/* ---- Errors ---- */

static __thread char last_error[4096];

/* How many bytes the UTF-8 character at the beginning has; 0: there is none. */
static size_t character(const unsigned char *text) {
  const size_t length = text[0] < 0x80 ? 1 : text[0] < 0xc2 ? 0 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : text[0] < 0xf5 ? 4 : 0;
  for (size_t i = 1; i < length; ++i) {
    if ((text[i] & 0xc0) != 0x80) return 0; /* the zero at the end, too */
  }
  const int overlong = (text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xf0 && text[1] < 0x90);
  const int none = (text[0] == 0xed && text[1] > 0x9f) || (text[0] == 0xf4 && text[1] > 0x8f);
  return overlong || none ? 0 : length;
}

static tm_status fail(tm_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(last_error, sizeof last_error, format, arguments);
  va_end(arguments);
  for (char *at = last_error; *at != '\0';) { /* names of files may be anything, and the end is cut off */
    const size_t length = character((const unsigned char *)at);
    if (length == 0) *at = '?';
    at += length == 0 ? 1 : length;
  }
  return status;
}

#define TRY(call)                         \
  do {                                    \
    const tm_status tried = (call);       \
    if (tried != TM_OK) return tried;     \
  } while (0)
#define NEED(pointer, name)                                                        \
  do {                                                                             \
    if ((pointer) == NULL) return fail(TM_ERROR_ARGUMENT, "%s is null", name);     \
  } while (0)

static tm_status no_memory(void) {
  return fail(TM_ERROR_MEMORY, "out of memory");
}

/* ---- Values: counted references, which the handles are ---- */

struct tm_value {
  int references;
  int depth; /* of a list, tuple or dict: at most so many in each other */
  tm_kind kind;
  int64_t number; /* of a bool and an int */
  double real, imaginary;
  char *text; /* with a terminating zero */
  size_t size; /* of the text; how many items */
  size_t room; /* for items of a dict */
  tm_value **items, **keys;
  Tensor tensor;
  tm_value *owner;   /* the value that owns the memory of the tensor, where another does */
  const char *begin; /* the borrowed memory, up to `end` */
  const char *end;
  void (*release)(void *);
  void *context;
};

static tm_value *kept(const tm_value *value) {
  tm_value *const same = (tm_value *)(uintptr_t)value; /* the count alone is changed */
  __atomic_add_fetch(&same->references, 1, __ATOMIC_RELAXED);
  return same;
}

static tm_status new_value(tm_kind kind, tm_value **value) {
  tm_value *const made = calloc(1, sizeof *made);
  if (made == NULL) return no_memory();
  made->references = 1;
  made->kind = kind;
  *value = made;
  return TM_OK;
}

static void drop(tm_value *value) {
  if (value == NULL || __atomic_sub_fetch(&value->references, 1, __ATOMIC_ACQ_REL) > 0) return;
  for (size_t i = 0; i < value->size; ++i) {
    if (value->items != NULL) drop(value->items[i]);
    if (value->keys != NULL) drop(value->keys[i]);
  }
  if (value->tensor != NULL) aoti_torch_delete_tensor_object(value->tensor);
  drop(value->owner);
  if (value->release != NULL) value->release(value->context);
  free(value->items);
  free(value->keys);
  free(value->text);
  free(value);
}

static const char *kind_name(const tm_value *value) {
  static const char *const names[] = {"none", "a bool", "an int", "a float", "a complex number", "a string",
                                      "a tensor", "a list", "a tuple", "a dict", "an object"};
  return names[value->kind];
}

static tm_status wrong_kind(const tm_value *value, const char *wanted) {
  return fail(TM_ERROR_TYPE, "the value is %s, not %s", kind_name(value), wanted);
}

static tm_status new_text(const char *text, size_t size, tm_value **value) {
  tm_value *made = NULL;
  if (size > SIZE_MAX / 2) return no_memory();
  TRY(new_value(TM_STRING, &made));
  made->text = malloc(size + 1);
  if (made->text == NULL) {
    drop(made);
    return no_memory();
  }
  if (size > 0) memcpy(made->text, text, size);
  made->text[size] = '\0';
  /* `size` counts items in drop(), which has none of them here */
  made->size = size;
  *value = made;
  return TM_OK;
}

/* What is freed and converted item by item takes the stack of a thread. */
static tm_status depth_around(const tm_value *const *items, size_t count, int *depth) {
  *depth = 1;
  for (size_t i = 0; i < count; ++i) {
    if (items[i]->depth >= *depth) *depth = items[i]->depth + 1;
  }
  if (*depth <= 1000) return TM_OK;
  return fail(TM_ERROR_ARGUMENT, "more than 1000 lists, tuples and dicts are in each other");
}

static tm_status new_sequence(tm_kind kind, const tm_value *const *items, size_t count, tm_value **value) {
  NEED(value, "the out parameter");
  if (count > 0) NEED(items, "the array of values");
  for (size_t i = 0; i < count; ++i) {
    if (items[i] == NULL) return fail(TM_ERROR_ARGUMENT, "value %zu is null", i);
  }
  int depth = 0;
  TRY(depth_around(items, count, &depth));
  tm_value *made = NULL;
  TRY(new_value(kind, &made));
  made->depth = depth;
  made->items = calloc(count + 1, sizeof *made->items);
  if (made->items == NULL) {
    drop(made);
    return no_memory();
  }
  for (size_t i = 0; i < count; ++i) made->items[i] = kept(items[i]);
  made->size = count;
  *value = made;
  return TM_OK;
}

static int same_key(const tm_value *a, const tm_value *b) {
  if (a->kind != b->kind) return 0;
  if (a->kind == TM_STRING) return a->size == b->size && memcmp(a->text, b->text, a->size) == 0;
  if (a->kind == TM_BOOL || a->kind == TM_INT) return a->number == b->number;
  return a->real == b->real && a->imaginary == b->imaginary;
}

static const tm_value *item_under(const tm_value *dict, const tm_value *key) {
  for (size_t i = 0; i < dict->size; ++i) {
    if (same_key(dict->keys[i], key)) return dict->items[i];
  }
  return NULL;
}

static tm_status put(tm_value *dict, const tm_value *key, const tm_value *item) {
  for (size_t i = 0; i < dict->size; ++i) {
    if (!same_key(dict->keys[i], key)) continue;
    tm_value *const before = dict->items[i];
    dict->items[i] = kept(item);
    drop(before);
    return TM_OK;
  }
  if (dict->size == dict->room) {
    const size_t room = dict->room * 2 + 8;
    tm_value **const items = realloc(dict->items, room * sizeof *items);
    if (items == NULL) return no_memory();
    dict->items = items;
    tm_value **const keys = realloc(dict->keys, room * sizeof *keys);
    if (keys == NULL) return no_memory();
    dict->keys = keys;
    dict->room = room;
  }
  dict->items[dict->size] = kept(item);
  dict->keys[dict->size] = kept(key);
  ++dict->size;
  return TM_OK;
}

/* The value takes the tensor, also where this fails. */
static tm_status new_tensor(Tensor tensor, tm_value **value) {
  const tm_status status = new_value(TM_TENSOR, value);
  if (status == TM_OK) {
    (*value)->tensor = tensor;
  } else {
    aoti_torch_delete_tensor_object(tensor);
  }
  return status;
}

/* ---- Tensors ---- */

static tm_status element_size(tm_dtype dtype, size_t *size) {
  const int known = (dtype >= 0 && dtype <= TM_BOOL8) || dtype == TM_BFLOAT16 ||
                    (dtype >= TM_FLOAT8_E5M2 && dtype <= TM_FLOAT8_E4M3FN) || (dtype >= TM_UINT16 && dtype <= TM_UINT64);
  if (!known) return fail(TM_ERROR_ARGUMENT, "there is no dtype %d", (int)dtype);
  *size = bytes_of(dtype);
  return TM_OK;
}

static tm_status too_large(void) {
  return fail(TM_ERROR_ARGUMENT, "the shape has more elements than memory can hold");
}

/* Check a layout, and write its strides; `reach` is of the last element, -1 where there is none. */
static tm_status lay_out(const void *data, size_t size, const int64_t *shape, int32_t dimensions, const int64_t *steps,
                         int64_t *strides, int64_t *reach) {
  int64_t elements = 1, next = 1, last = 0;
  const int64_t most = INT64_MAX / (int64_t)size;
  if (dimensions < 0 || dimensions > TM_MOST_DIMENSIONS) {
    return fail(TM_ERROR_ARGUMENT, "%d is not a number of dimensions", (int)dimensions);
  }
  if (dimensions > 0) NEED(shape, "the shape");
  for (int32_t i = dimensions; i-- > 0;) {
    int64_t step = 0;
    if (shape[i] < 0) return fail(TM_ERROR_ARGUMENT, "dimension %d has the size %lld", (int)i, (long long)shape[i]);
    if (shape[i] == 0) elements = 0;
    if (elements != 0 && __builtin_mul_overflow(elements, shape[i], &elements)) return too_large();
    strides[i] = steps != NULL ? steps[i] : next;
    if (strides[i] < 0) return fail(TM_ERROR_ARGUMENT, "the stride of dimension %d is negative", (int)i);
    if (shape[i] > 0 && (__builtin_mul_overflow(shape[i] - 1, strides[i], &step) || __builtin_add_overflow(last, step, &last))) {
      return too_large();
    }
    if (steps == NULL && shape[i] > 0 && __builtin_mul_overflow(next, shape[i], &next)) return too_large();
  }
  if (elements > most || last > most - 1) return too_large();
  if (elements > 0) NEED(data, "the data");
  *reach = elements > 0 ? last : -1;
  return TM_OK;
}

static tm_status of_tensor(const tm_value *value, Tensor *tensor) {
  NEED(value, "the value");
  if (value->kind != TM_TENSOR) return wrong_kind(value, "a tensor");
  *tensor = value->tensor;
  return TM_OK;
}

static tm_status not_done(const char *what) {
  return fail(TM_ERROR_MODEL, "libtorch could not %s the tensor", what);
}

/* What tm_tensor_get_info() writes. */
static tm_status describe(Tensor tensor, tm_tensor_info *info) {
  int64_t dimensions = 0, *sizes = NULL, *strides = NULL;
  int32_t layout = 0, device = 0;
  memset(info, 0, sizeof *info);
  const int has_layout = aoti_torch_get_layout != NULL;
  if ((has_layout && aoti_torch_get_layout(tensor, &layout)) || aoti_torch_get_device_type(tensor, &device)) return not_done("describe");
  if (has_layout && layout != aoti_torch_layout_strided()) return fail(TM_ERROR_UNSUPPORTED, "the tensor is sparse");
  info->is_cpu = device == aoti_torch_device_type_cpu();
  if (aoti_torch_get_dim(tensor, &dimensions) || aoti_torch_get_sizes(tensor, &sizes) ||
      aoti_torch_get_strides(tensor, &strides) || aoti_torch_get_numel(tensor, &info->elements) ||
      aoti_torch_get_dtype(tensor, &info->dtype) || (info->is_cpu && aoti_torch_get_data_ptr(tensor, &info->data))) {
    return not_done("describe");
  }
  info->shape = sizes;
  info->strides = strides;
  info->dimensions = (int32_t)dimensions;
  info->element_size = (int32_t)bytes_of(info->dtype);
  info->is_contiguous = 1;
  int64_t next = 1;
  for (int32_t i = info->dimensions; i-- > 0 && info->elements > 0;) {
    if (sizes[i] != 1 && strides[i] != next) info->is_contiguous = 0;
    next *= sizes[i];
  }
  return TM_OK;
}

/* A new tensor in row-major order with the elements of another, converted to a dtype. */
static tm_status converted(Tensor source, tm_dtype dtype, tm_value **value) {
  tm_tensor_info info;
  int64_t strides[TM_MOST_DIMENSIONS], next = 1;
  Tensor made = NULL;
  TRY(describe(source, &info));
  if (info.dimensions > TM_MOST_DIMENSIONS) return fail(TM_ERROR_UNSUPPORTED, "the tensor has too many dimensions");
  for (int32_t i = info.dimensions; i-- > 0;) {
    strides[i] = next;
    next *= info.shape[i] > 0 ? info.shape[i] : 1;
  }
  if (aoti_torch_empty_strided(info.dimensions, info.shape, strides, dtype, aoti_torch_device_type_cpu(), 0, &made)) {
    return no_memory();
  }
  if (aoti_torch_copy_(made, source, 0)) {
    aoti_torch_delete_tensor_object(made);
    return not_done("convert");
  }
  return new_tensor(made, value);
}

static tm_status over(const void *data, tm_dtype dtype, const int64_t *shape, int32_t dimensions, const int64_t *strides,
                      Tensor *tensor, int64_t *bytes) {
  int64_t steps[TM_MOST_DIMENSIONS], reach = 0;
  size_t size = 0;
  TRY(element_size(dtype, &size));
  TRY(lay_out(data, size, shape, dimensions, strides, steps, &reach));
  *bytes = (reach + 1) * (int64_t)size;
  if (aoti_torch_create_tensor_from_blob((void *)(uintptr_t)data, dimensions, shape, steps, 0, dtype,
                                         aoti_torch_device_type_cpu(), 0, tensor)) {
    return not_done("make");
  }
  return TM_OK;
}

/* ---- JSON: as little as the call spec of a package needs ---- */

typedef struct Json {
  enum { JSON_NULL, JSON_WORD, JSON_STRING, JSON_ARRAY, JSON_OBJECT } kind;
  char *text; /* of a string, a number, true and false */
  size_t size;
  struct Json **items;
  char **names; /* of an object */
  size_t count;
} Json;

static void free_json(Json *json) {
  if (json == NULL) return;
  for (size_t i = 0; i < json->count; ++i) {
    free_json(json->items[i]);
    if (json->names != NULL) free(json->names[i]);
  }
  free(json->items);
  free(json->names);
  free(json->text);
  free(json);
}

static void skip(const char **at) {
  while (isspace((unsigned char)**at)) ++*at;
}

static unsigned long hexadecimal(const char **at) { /* four digits behind `\u` */
  unsigned long code = 0;
  for (int i = 0; i < 4 && isxdigit((unsigned char)**at); ++i) {
    const char digit = *(*at)++;
    code = code * 16 + (unsigned long)(isdigit((unsigned char)digit) ? digit - '0' : (digit | 32) - 'a' + 10);
  }
  return code;
}

static char *json_text(const char **at, size_t *size) { /* null: it is none, or there is no memory */
  if (**at != '"') return NULL;
  char *const text = malloc(strlen(++*at) + 1);
  size_t length = 0;
  while (text != NULL && **at != '"' && **at != '\0') {
    char letter = *(*at)++;
    if (letter == '\\' && **at != '\0') {
      letter = *(*at)++;
      if (letter == 'u') {
        unsigned long code = hexadecimal(at);
        if (code >= 0xD800 && code < 0xDC00 && (*at)[0] == '\\' && (*at)[1] == 'u') {
          *at += 2;
          code = 0x10000 + ((code - 0xD800) << 10) + (hexadecimal(at) - 0xDC00);
        }
        if (code >= 0x10000) text[length++] = (char)(0xF0 | (code >> 18 & 7));
        if (code >= 0x10000) text[length++] = (char)(0x80 | (code >> 12 & 0x3F));
        if (code >= 0x800 && code < 0x10000) text[length++] = (char)(0xE0 | code >> 12);
        if (code >= 0x800) text[length++] = (char)(0x80 | (code >> 6 & 0x3F));
        if (code >= 0x80 && code < 0x800) text[length++] = (char)(0xC0 | code >> 6);
        text[length++] = code < 0x80 ? (char)code : (char)(0x80 | (code & 0x3F));
        continue;
      }
      letter = letter == 'n' ? '\n' : letter == 't' ? '\t' : letter == 'r' ? '\r' : letter == 'b' ? '\b' : letter == 'f' ? '\f' : letter;
    }
    text[length++] = letter;
  }
  if (text == NULL || **at != '"') {
    free(text);
    return NULL;
  }
  ++*at;
  text[length] = '\0';
  *size = length;
  return text;
}

static Json *read_json(const char **at, int depth) { /* null: it is none, or there is no memory */
  Json *const json = calloc(1, sizeof *json);
  size_t room = 0;
  if (json == NULL || depth > 100) goto wrong;
  skip(at);
  if (**at == '[' || **at == '{') {
    const char end = **at == '[' ? ']' : '}';
    json->kind = end == ']' ? JSON_ARRAY : JSON_OBJECT;
    ++*at;
    for (skip(at); **at != end; skip(at)) {
      if (json->count > 0 && *(*at)++ != ',') goto wrong;
      if (json->count == room) {
        room = room * 2 + 8;
        Json **const items = realloc(json->items, room * sizeof *items);
        if (items == NULL) goto wrong;
        json->items = items;
        if (json->kind == JSON_OBJECT) {
          char **const names = realloc(json->names, room * sizeof *names);
          if (names == NULL) goto wrong;
          json->names = names;
        }
      }
      char *name = NULL;
      if (json->kind == JSON_OBJECT) {
        size_t size = 0;
        skip(at);
        name = json_text(at, &size);
        skip(at);
        if (name == NULL || *(*at)++ != ':') {
          free(name);
          goto wrong;
        }
      }
      Json *const item = read_json(at, depth + 1);
      if (item == NULL) {
        free(name);
        goto wrong;
      }
      if (json->kind == JSON_OBJECT) json->names[json->count] = name;
      json->items[json->count++] = item;
    }
    ++*at;
  } else if (**at == '"') {
    json->kind = JSON_STRING;
    json->text = json_text(at, &json->size);
    if (json->text == NULL) goto wrong;
  } else {
    const char *const start = *at;
    while (isalnum((unsigned char)**at) || (**at != '\0' && strchr(".+-", **at) != NULL)) ++*at;
    json->size = (size_t)(*at - start);
    json->text = strndup(start, json->size);
    if (json->size == 0 || json->text == NULL) goto wrong;
    json->kind = strcmp(json->text, "null") == 0 ? JSON_NULL : JSON_WORD;
  }
  return json;
wrong:
  free_json(json);
  return NULL;
}

static Json *whole_json(const char *text) {
  Json *json = read_json(&text, 0);
  skip(&text);
  if (json != NULL && *text != '\0') {
    free_json(json);
    json = NULL;
  }
  return json;
}

static const Json *member(const Json *json, const char *name) {
  for (size_t i = 0; json->kind == JSON_OBJECT && i < json->count; ++i) {
    if (strcmp(json->names[i], name) == 0) return json->items[i];
  }
  return NULL;
}

/* ---- The structure of a package's inputs and outputs: a tree spec of torch.utils._pytree ---- */

typedef struct Spec {
  tm_kind kind; /* TM_TENSOR: a leaf */
  tm_value **keys; /* of a dict, in the model's order */
  struct Spec **parts;
  size_t count;
} Spec;

static void free_spec(Spec *spec) {
  if (spec == NULL) return;
  for (size_t i = 0; i < spec->count; ++i) {
    free_spec(spec->parts[i]);
    if (spec->keys != NULL) drop(spec->keys[i]);
  }
  free(spec->parts);
  free(spec->keys);
  free(spec);
}

static int ends_with(const char *text, const char *ending) {
  const size_t length = strlen(text), size = strlen(ending);
  return length >= size && strcmp(text + length - size, ending) == 0;
}

static tm_status key_of(const Json *json, tm_value **key) {
  if (json->kind == JSON_STRING) return new_text(json->text, json->size, key);
  if (json->kind != JSON_WORD) return TM_ERROR_TYPE;
  const int boolean = strcmp(json->text, "true") == 0 || strcmp(json->text, "false") == 0;
  const int whole = strpbrk(json->text, ".eEnN") == NULL;
  TRY(new_value(boolean ? TM_BOOL : whole ? TM_INT : TM_FLOAT, key));
  (*key)->number = boolean ? json->text[0] == 't' : atoll(json->text);
  (*key)->real = atof(json->text);
  return TM_OK;
}

/* A context that names each child: the keys of a dict, `[[names], …]` of a dataclass, `dict_context` of a defaultdict. */
static void read_keys(Spec *spec, const Json *context) {
  Json *const inner = context->kind == JSON_STRING ? whole_json(context->text) : NULL;
  const Json *value = inner != NULL ? inner : context;
  if (member(value, "dict_context") != NULL) value = member(value, "dict_context");
  if (value->kind == JSON_ARRAY && value->count > 0 && value->items[0]->kind == JSON_ARRAY) value = value->items[0];
  if (value->kind == JSON_ARRAY && value->count == spec->count && spec->count > 0) {
    tm_value **const keys = calloc(spec->count, sizeof *keys);
    int right = keys != NULL;
    for (size_t i = 0; right && i < spec->count; ++i) {
      right = key_of(value->items[i], &keys[i]) == TM_OK && keys[i]->kind == keys[0]->kind;
    }
    if (right) {
      spec->keys = keys;
      spec->kind = TM_DICT;
    } else {
      for (size_t i = 0; keys != NULL && i < spec->count; ++i) drop(keys[i]);
      free(keys);
    }
  }
  free_json(inner);
}

static Spec *spec_of(const Json *node) { /* null: of another form, or there is no memory */
  const Json *const type = member(node, "type"), *const context = member(node, "context");
  const Json *const children = member(node, "children_spec");
  Spec *const spec = calloc(1, sizeof *spec);
  if (type == NULL || children == NULL || children->kind != JSON_ARRAY || spec == NULL) goto wrong;
  spec->kind = TM_TENSOR;
  if (type->kind == JSON_NULL) return spec;
  if (type->kind != JSON_STRING) goto wrong;
  spec->parts = calloc(children->count + 1, sizeof *spec->parts);
  if (spec->parts == NULL) goto wrong;
  for (size_t i = 0; i < children->count; ++i) {
    spec->parts[i] = spec_of(children->items[i]);
    if (spec->parts[i] == NULL) goto wrong;
    ++spec->count;
  }
  const char *const name = type->text;
  const int lists = ends_with(name, "list") || strcmp(name, "collections.deque") == 0;
  spec->kind = lists ? TM_LIST : TM_TUPLE;
  const int tuples = strcmp(name, "collections.namedtuple") == 0 || strcmp(name, "builtins.tuple") == 0;
  if (context != NULL && !tuples) read_keys(spec, context);
  if (spec->count == 0 && (ends_with(name, "dict") || ends_with(name, "Dict"))) spec->kind = TM_DICT;
  return spec;
wrong:
  free_spec(spec);
  return NULL;
}

static Spec *read_spec(const char *text) { /* `[1, {"type", "context", "children_spec"}]` */
  Json *const json = whole_json(text);
  Spec *const spec = json != NULL && json->kind == JSON_ARRAY && json->count == 2 ? spec_of(json->items[1]) : NULL;
  free_json(json);
  return spec;
}

static size_t leaves(const Spec *spec) {
  size_t count = spec->kind == TM_TENSOR;
  for (size_t i = 0; i < spec->count; ++i) count += leaves(spec->parts[i]);
  return count;
}

static const char *shown_key(const tm_value *key, char *buffer, size_t size) {
  if (key->kind == TM_STRING) {
    snprintf(buffer, size, "'%s'", key->text);
  } else if (key->kind == TM_INT) {
    snprintf(buffer, size, "%lld", (long long)key->number);
  } else if (key->kind == TM_BOOL) {
    snprintf(buffer, size, "%s", key->number ? "True" : "False");
  } else {
    snprintf(buffer, size, "%g", key->real);
  }
  return buffer;
}

static tm_status other_keys(const Spec *spec, const char *place) {
  char keys[1024] = "", one[128];
  for (size_t i = 0; i < spec->count && strlen(keys) + sizeof one + 2 < sizeof keys; ++i) {
    if (i > 0) strcat(keys, ", ");
    strcat(keys, shown_key(spec->keys[i], one, sizeof one));
  }
  return fail(TM_ERROR_TYPE, "%s must be a dict with %s%s", place, spec->count ? "the keys " : "no keys", keys);
}

/* The values of the tensors that a call takes. */
typedef struct Flat {
  const tm_value **tensors;
  size_t count, room;
} Flat;

/*
 * The tensors in a value, in the order that the model takes them. What is no tensor was fixed when the model was exported, and is
 * left out, as Python's aoti_load_package does.
 */
static tm_status flatten(const Spec *spec, const tm_value *value, const char *place, Flat *flat) {
  char below[512], one[128];
  if (spec->kind == TM_TENSOR) {
    if (value->kind >= TM_LIST && value->kind <= TM_DICT) {
      return fail(TM_ERROR_TYPE, "%s must be one tensor, and is a list, tuple or dict", place);
    }
    if (value->kind != TM_TENSOR) return TM_OK;
    if (flat->count == flat->room) {
      const tm_value **const tensors = realloc(flat->tensors, (flat->room * 2 + 8) * sizeof *tensors);
      if (tensors == NULL) return no_memory();
      flat->tensors = tensors;
      flat->room = flat->room * 2 + 8;
    }
    flat->tensors[flat->count++] = value;
  } else if (spec->kind == TM_DICT) {
    if (value->kind != TM_DICT || value->size != spec->count) return other_keys(spec, place);
    for (size_t i = 0; i < spec->count; ++i) {
      const tm_value *const found = item_under(value, spec->keys[i]);
      if (found == NULL) return other_keys(spec, place);
      snprintf(below, sizeof below, "%s[%s]", place, shown_key(spec->keys[i], one, sizeof one));
      TRY(flatten(spec->parts[i], found, below, flat));
    }
  } else {
    if ((value->kind != TM_LIST && value->kind != TM_TUPLE) || value->size != spec->count) {
      return fail(TM_ERROR_TYPE, "%s must be a %s of %zu", place, spec->kind == TM_LIST ? "list" : "tuple", spec->count);
    }
    for (size_t i = 0; i < spec->count; ++i) {
      snprintf(below, sizeof below, "%s[%zu]", place, i);
      TRY(flatten(spec->parts[i], value->items[i], below, flat));
    }
  }
  return TM_OK;
}

/* A value of this structure; `values` are those of the leaves from `at` on. */
static tm_status unflatten(const Spec *spec, tm_value *const *values, size_t *at, tm_value **result) {
  if (spec->kind == TM_TENSOR) {
    *result = kept(values[(*at)++]);
    return TM_OK;
  }
  tm_value *made = NULL;
  if (spec->kind == TM_DICT) {
    TRY(new_value(TM_DICT, &made));
  } else {
    TRY(new_sequence(spec->kind, NULL, 0, &made));
    tm_value **const items = calloc(spec->count + 1, sizeof *items);
    if (items == NULL) {
      drop(made);
      return no_memory();
    }
    free(made->items);
    made->items = items;
  }
  for (size_t i = 0; i < spec->count; ++i) {
    tm_value *part = NULL;
    tm_status status = unflatten(spec->parts[i], values, at, &part);
    if (status == TM_OK && spec->kind == TM_DICT) {
      status = put(made, spec->keys[i], part);
      drop(part);
    } else if (status == TM_OK) {
      made->items[made->size++] = part;
    }
    if (status != TM_OK) {
      drop(made);
      return status;
    }
  }
  *result = made;
  return TM_OK;
}

/* ---- Deflate (RFC 1951), of its own: PyTorch stores its entries, and zlib's header is not on every machine ---- */

typedef struct Bits {
  const unsigned char *data;
  size_t size, at;
  unsigned long held;
  int count;
} Bits;

static int bits(Bits *from, int count) { /* -1: the data ends */
  while (from->count < count) {
    if (from->at == from->size) return -1;
    from->held |= (unsigned long)from->data[from->at++] << from->count;
    from->count += 8;
  }
  const int value = (int)(from->held & ((1UL << count) - 1));
  from->held >>= count;
  from->count -= count;
  return value;
}

typedef struct Huffman {
  short counts[16], symbols[288];
} Huffman;

static int build(Huffman *code, const unsigned char *lengths, int count) { /* 0: fewer or as many codes as there is room for */
  short offsets[16] = {0};
  int left = 1;
  memset(code, 0, sizeof *code);
  for (int i = 0; i < count; ++i) ++code->counts[lengths[i]];
  code->counts[0] = 0;
  for (int i = 1; i < 16; ++i) {
    left = left * 2 - code->counts[i];
    if (left < 0) return -1;
  }
  for (int i = 1; i < 15; ++i) offsets[i + 1] = (short)(offsets[i] + code->counts[i]);
  for (int i = 0; i < count; ++i) {
    if (lengths[i] != 0) code->symbols[offsets[lengths[i]]++] = (short)i;
  }
  return 0;
}

static int symbol(Bits *from, const Huffman *code) {
  int value = 0, first = 0, index = 0;
  for (int length = 1; length < 16; ++length) {
    const int bit = bits(from, 1);
    if (bit < 0) return -1;
    value |= bit;
    const int count = code->counts[length];
    if (value - count < first) return code->symbols[index + (value - first)];
    index += count;
    first = (first + count) << 1;
    value <<= 1;
  }
  return -1;
}

static int inflate_codes(Bits *from, const Huffman *letters, const Huffman *distances, unsigned char *out, size_t size, size_t *at) {
  static const short bases[] = {3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
  static const short extra[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
  static const short far[] = {1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
  static const short more[] = {0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13};
  for (;;) {
    int code = symbol(from, letters);
    if (code < 0) return -1;
    if (code == 256) return 0;
    if (code < 256) {
      if (*at == size) return -1;
      out[(*at)++] = (unsigned char)code;
      continue;
    }
    code -= 257;
    if (code >= 29) return -1;
    const int added = bits(from, extra[code]);
    const int place = symbol(from, distances);
    if (added < 0 || place < 0 || place >= 30) return -1;
    const int beyond = bits(from, more[place]);
    if (beyond < 0) return -1;
    const size_t length = (size_t)(bases[code] + added), distance = (size_t)(far[place] + beyond);
    if (distance > *at || length > size - *at) return -1;
    for (size_t i = 0; i < length; ++i, ++*at) out[*at] = out[*at - distance];
  }
}

static int inflate_tables(Bits *from, Huffman *letters, Huffman *distances) {
  static const unsigned char order[] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
  unsigned char lengths[320] = {0};
  const int letter_count = bits(from, 5) + 257, distance_count = bits(from, 5) + 1, code_count = bits(from, 4) + 4;
  if (letter_count < 257 || letter_count > 286 || distance_count < 1 || distance_count > 30 || code_count < 4) return -1;
  for (int i = 0; i < code_count; ++i) {
    const int length = bits(from, 3);
    if (length < 0) return -1;
    lengths[order[i]] = (unsigned char)length;
  }
  Huffman code;
  if (build(&code, lengths, 19)) return -1;
  memset(lengths, 0, sizeof lengths);
  for (int at = 0; at < letter_count + distance_count;) {
    const int one = symbol(from, &code);
    if (one < 0) return -1;
    if (one < 16) {
      lengths[at++] = (unsigned char)one;
      continue;
    }
    if (one == 16 && at == 0) return -1;
    const unsigned char value = one == 16 ? lengths[at - 1] : 0;
    const int repeat = one == 16 ? bits(from, 2) + 3 : one == 17 ? bits(from, 3) + 3 : bits(from, 7) + 11;
    if (repeat < 3 || at + repeat > letter_count + distance_count) return -1;
    memset(lengths + at, value, (size_t)repeat);
    at += repeat;
  }
  return build(letters, lengths, letter_count) || build(distances, lengths + letter_count, distance_count);
}

static int inflate_all(const unsigned char *data, size_t data_size, unsigned char *out, size_t size) { /* 0: exactly `size` bytes */
  Bits from = {data, data_size, 0, 0, 0};
  size_t at = 0;
  for (int last = 0; !last;) {
    last = bits(&from, 1);
    const int kind = bits(&from, 2);
    if (last < 0 || kind < 0 || kind == 3) return -1;
    if (kind == 0) {
      from.held = 0;
      from.count = 0;
      if (from.size - from.at < 4) return -1;
      const size_t length = (size_t)from.data[from.at] | (size_t)from.data[from.at + 1] << 8;
      from.at += 4;
      if (length > from.size - from.at || length > size - at) return -1;
      memcpy(out + at, from.data + from.at, length);
      from.at += length;
      at += length;
      continue;
    }
    Huffman letters, distances;
    if (kind == 1) {
      unsigned char lengths[288];
      for (int i = 0; i < 288; ++i) lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
      build(&letters, lengths, 288);
      memset(lengths, 5, 30);
      build(&distances, lengths, 30);
    } else if (inflate_tables(&from, &letters, &distances)) {
      return -1;
    }
    if (inflate_codes(&from, &letters, &distances, out, size, &at)) return -1;
  }
  return at == size ? 0 : -1;
}

static uint32_t crc32_of(const unsigned char *data, size_t size) {
  uint32_t table[256], crc = 0xFFFFFFFFU;
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = value & 1 ? value >> 1 ^ 0xEDB88320U : value >> 1;
    table[i] = value;
  }
  for (size_t i = 0; i < size; ++i) crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xFF];
  return ~crc;
}

/* ---- Zip archives (APPNOTE 6.3), in a file or in memory ---- */

enum {
  MOST_ENTRIES = 20000,
  GROWTH = 16, /* how much larger a package may be when it is unpacked, besides ALLOWANCE */
  ALLOWANCE = 128 << 20,
  LARGEST_TABLE = 64 << 20
};

typedef struct Source {
  const char *label; /* for messages */
  int descriptor; /* -1: in memory */
  const unsigned char *data;
  uint64_t size;
} Source;

typedef struct Entry {
  const char *name; /* not terminated; in the archive's table */
  size_t length;
  uint64_t packed, size, offset;
  uint32_t crc;
  int method;
} Entry;

typedef struct Archive {
  unsigned char *table;
  Entry *entries;
  size_t count;
} Archive;

static uint64_t number_at(const unsigned char *at, int bytes) {
  uint64_t value = 0;
  for (int i = bytes; i-- > 0;) value = value << 8 | at[i];
  return value;
}

static tm_status read_at(const Source *source, uint64_t offset, void *out, size_t size) {
  if (offset > source->size || size > source->size - offset) return fail(TM_ERROR_FILE, "%s: a damaged archive: it ends too early", source->label);
  if (source->descriptor < 0) {
    memcpy(out, source->data + offset, size);
    return TM_OK;
  }
  for (size_t done = 0; done < size;) {
    const ssize_t got = pread(source->descriptor, (char *)out + done, size - done, (off_t)(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(TM_ERROR_FILE, "%s: %s", source->label, strerror(errno));
    if (got == 0) return fail(TM_ERROR_FILE, "%s: a damaged archive: it ends too early", source->label);
    done += (size_t)got;
  }
  return TM_OK;
}

static void free_archive(Archive *archive) {
  free(archive->table);
  free(archive->entries);
}

static tm_status damaged(const Source *source, const char *what) {
  return fail(TM_ERROR_FILE, "%s: a damaged archive: %s", source->label, what);
}

static tm_status read_table(const Source *source, uint64_t offset, size_t size, uint64_t count, Archive *archive) {
  archive->table = malloc(size + 1);
  archive->entries = calloc((size_t)count + 1, sizeof *archive->entries);
  if (archive->table == NULL || archive->entries == NULL) return no_memory();
  TRY(read_at(source, offset, archive->table, size));
  const unsigned char *at = archive->table, *const end = at + size;
  for (; archive->count < count; ++archive->count) {
    Entry *const entry = &archive->entries[archive->count];
    if (end - at < 46 || memcmp(at, "PK\1\2", 4) != 0) return damaged(source, "its table of contents is cut off");
    const size_t name = number_at(at + 28, 2), extra = number_at(at + 30, 2), comment = number_at(at + 32, 2);
    if ((size_t)(end - at) < 46 + name + extra + comment) return damaged(source, "its table of contents is cut off");
    if (number_at(at + 8, 2) & 1) return damaged(source, "an entry is encrypted");
    *entry = (Entry){(const char *)at + 46, name, number_at(at + 20, 4), number_at(at + 24, 4), number_at(at + 42, 4), (uint32_t)number_at(at + 16, 4), (int)number_at(at + 10, 2)};
    const unsigned char *field = at + 46 + name, *const fields_end = field + extra;
    while (fields_end - field >= 4) { /* the zip64 field has what does not fit above, in this order */
      const size_t length = number_at(field + 2, 2);
      const unsigned char *value = field + 4, *const value_end = value + length;
      if (value_end > fields_end) break;
      if (number_at(field, 2) == 1) {
        uint64_t *const wide[] = {&entry->size, &entry->packed, &entry->offset};
        for (int i = 0; i < 3; ++i) {
          if (*wide[i] != 0xFFFFFFFFU || value_end - value < 8) continue;
          *wide[i] = number_at(value, 8);
          value += 8;
        }
      }
      field = value_end;
    }
    at += 46 + name + extra + comment;
  }
  return TM_OK;
}

static tm_status open_archive(const Source *source, Archive *archive) {
  const size_t length = source->size < 65557 + 20 ? (size_t)source->size : 65557 + 20;
  unsigned char *const tail = malloc(length + 1);
  if (tail == NULL) return no_memory();
  tm_status status = read_at(source, source->size - length, tail, length);
  size_t end = length;
  for (size_t at = length >= 22 ? length - 22 + 1 : 0; status == TM_OK && at-- > 0;) {
    if (memcmp(tail + at, "PK\5\6", 4) == 0) {
      end = at;
      break;
    }
  }
  uint64_t count = 0, size = 0, offset = 0;
  if (status == TM_OK && end == length) {
    status = fail(TM_ERROR_FILE, "%s: no AOTInductor package: not a zip archive", source->label);
  } else if (status == TM_OK) {
    count = number_at(tail + end + 10, 2);
    size = number_at(tail + end + 12, 4);
    offset = number_at(tail + end + 16, 4);
    if (end >= 20 && memcmp(tail + end - 20, "PK\6\7", 4) == 0) { /* zip64 */
      unsigned char wide[56];
      status = read_at(source, number_at(tail + end - 20 + 8, 8), wide, sizeof wide);
      if (status == TM_OK && memcmp(wide, "PK\6\6", 4) != 0) status = damaged(source, "its zip64 record is missing");
      count = number_at(wide + 32, 8);
      size = number_at(wide + 40, 8);
      offset = number_at(wide + 48, 8);
    }
  }
  free(tail);
  TRY(status);
  if (count > MOST_ENTRIES || size > LARGEST_TABLE) return damaged(source, "it has too many entries");
  return read_table(source, offset, (size_t)size, count, archive);
}

static tm_status unpack(const Source *source, const Entry *entry, unsigned char **out) { /* with a terminating zero */
  unsigned char header[30], *packed = NULL;
  TRY(read_at(source, entry->offset, header, sizeof header));
  if (memcmp(header, "PK\3\4", 4) != 0) return damaged(source, "an entry is not where its table says");
  const uint64_t start = entry->offset + 30 + number_at(header + 26, 2) + number_at(header + 28, 2);
  if (entry->method != 0 && entry->method != 8) return damaged(source, "an entry is neither stored nor deflated");
  if (entry->packed > source->size || (entry->method == 0 && entry->packed != entry->size)) return damaged(source, "the sizes of an entry are wrong");
  unsigned char *const content = malloc((size_t)entry->size + 1);
  if (entry->method == 8) packed = malloc((size_t)entry->packed + 1);
  tm_status status = content == NULL || (entry->method == 8 && packed == NULL) ? no_memory() : TM_OK;
  if (status == TM_OK) status = read_at(source, start, entry->method == 8 ? packed : content, (size_t)entry->packed);
  if (status == TM_OK && entry->method == 8 && inflate_all(packed, (size_t)entry->packed, content, (size_t)entry->size)) {
    status = damaged(source, "an entry does not unpack");
  }
  if (status == TM_OK && crc32_of(content, (size_t)entry->size) != entry->crc) status = damaged(source, "the checksum of an entry is wrong");
  free(packed);
  if (status != TM_OK) {
    free(content);
    return status;
  }
  content[entry->size] = '\0';
  *out = content;
  return TM_OK;
}

/* Of a package the entries begin with `NAME/data/aotinductor/MODEL/`. Returns what follows it, or null. */
static const char *in_model(const Entry *entry, const char **model, size_t *model_length, size_t *length) {
  static const char place[] = "data/aotinductor/";
  const char *const found = memmem(entry->name, entry->length, place, sizeof place - 1);
  if (found == NULL || (found != entry->name && found[-1] != '/')) return NULL;
  const char *const begin = found + sizeof place - 1;
  const char *const slash = memchr(begin, '/', (size_t)(entry->name + entry->length - begin));
  if (slash == NULL || slash == begin) return NULL;
  *model = begin;
  *model_length = (size_t)(slash - begin);
  *length = (size_t)(entry->name + entry->length - slash - 1);
  return slash + 1;
}

static int entry_ends(const Entry *entry, const char *ending) {
  const size_t size = strlen(ending);
  return entry->length >= size && memcmp(entry->name + entry->length - size, ending, size) == 0;
}

static int any_ends(const Archive *archive, const char *ending) {
  for (size_t i = 0; i < archive->count; ++i) {
    if (entry_ends(&archive->entries[i], ending)) return 1;
  }
  return 0;
}

static tm_status not_a_package(const Source *source, const Archive *archive) {
  if (any_ends(archive, "/models/model.json") || any_ends(archive, "serialized_exported_program.json")) {
    return fail(TM_ERROR_FILE, "%s: an ExportedProgram (torch.export.save), which is not compiled; compile it with torch._inductor.aoti_compile_and_package()", source->label);
  }
  if (any_ends(archive, "/constants.pkl") || any_ends(archive, "/model.json")) {
    return fail(TM_ERROR_UNSUPPORTED, "%s: a TorchScript model; this library (torchlink capi --aoti-only) runs AOTInductor packages alone; one built without --aoti-only runs both", source->label);
  }
  if (any_ends(archive, "/data.pkl")) return fail(TM_ERROR_FILE, "%s: weights or a pickled module (torch.save), not a package", source->label);
  return fail(TM_ERROR_FILE, "%s: neither a TorchScript model nor an AOTInductor package", source->label);
}

/* ---- Whether a package fits this machine and this libtorch ---- */

/* Text of a member of the model's metadata, in the entry that ends so; null where it has none. The caller frees it. */
static char *told_by(const Source *source, const Archive *archive, const char *model, const char *ending, const char *name) {
  char *text = NULL;
  for (size_t i = 0; text == NULL && i < archive->count; ++i) {
    const Entry *const entry = &archive->entries[i];
    const char *found = NULL;
    size_t found_length = 0, length = 0;
    unsigned char *content = NULL;
    if (in_model(entry, &found, &found_length, &length) == NULL || found_length != strlen(model) || memcmp(found, model, found_length) != 0) continue;
    if (!entry_ends(entry, ending) || entry->size > (1 << 20) || unpack(source, entry, &content) != TM_OK) continue;
    Json *const json = whole_json((const char *)content);
    const Json *const value = json != NULL ? member(json, name) : NULL;
    if (value != NULL && value->kind == JSON_STRING) text = strdup(value->text);
    free_json(json);
    free(content);
  }
  return text;
}

static char *told(const Source *source, const Archive *archive, const char *model, const char *name) {
  char *const text = told_by(source, archive, model, ".wrapper_metadata.json", name);
  return text != NULL ? text : told_by(source, archive, model, "_metadata.json", name); /* the name before 2.7 */
}

static int has_flag(const char *flags, const char *wanted, size_t length) {
  while (*flags != '\0') {
    const size_t word = strcspn(flags, " \t\n");
    if (word == length && memcmp(flags, wanted, length) == 0) return 1;
    flags += word;
    flags += strspn(flags, " \t\n");
  }
  return 0;
}

static int has_flags(const char *flags, const char *wanted) { /* each word of `wanted` is one of `flags` */
  for (size_t length; *wanted != '\0'; wanted += strspn(wanted, " ")) {
    length = strcspn(wanted, " ");
    if (!has_flag(flags, wanted, length)) return 0;
    wanted += length;
  }
  return 1;
}

/* Name -> what /proc/cpuinfo calls its parts. */
static const char *const instruction_sets[][2] = {
    {"AVX2", "avx2 fma"},           {"AVX512", "avx512f avx512dq avx512vl avx512bw"},
    {"AVX512_VNNI", "avx512_vnni"}, {"AVX512_BF16", "avx512_bf16"},
    {"AMX_TILE", "amx_tile"},       {"AMX_FP16", "amx_fp16"},
    {"ASIMD", "asimd"},             {"SVE", "sve"},
};

static tm_status check_instructions(const Source *source, const char *told_sets) {
  char line[16384] = "";
  FILE *const file = fopen("/proc/cpuinfo", "r");
  const char *flags = NULL;
  while (file != NULL && flags == NULL && fgets(line, sizeof line, file) != NULL) {
    if (strncmp(line, "flags", 5) == 0 || strncmp(line, "Features", 8) == 0) flags = strchr(line, ':');
  }
  if (file != NULL) fclose(file);
  if (flags == NULL) return TM_OK; /* the system does not report them */
  ++flags;
  flags += strspn(flags, " \t");
  for (const char *at = told_sets; *at != '\0'; at += strspn(at, " ")) {
    const size_t length = strcspn(at, " ");
    for (size_t i = 0; i < sizeof instruction_sets / sizeof *instruction_sets; ++i) {
      const char *const name = instruction_sets[i][0];
      if (strlen(name) != length || strncasecmp(name, at, length) != 0 || has_flags(flags, instruction_sets[i][1])) continue;
      return fail(TM_ERROR_UNSUPPORTED, "%s: compiled for a processor with %s, which this one does not have", source->label, name);
    }
    at += length;
  }
  return TM_OK;
}

static tm_status check_told(const Source *source, const Archive *archive, const char *model, const char *device) {
  char *const compiled = told(source, archive, model, "AOTI_DEVICE_KEY"), *const machine = told(source, archive, model, "AOTI_MACHINE");
  char *const sets = told(source, archive, model, "AOTI_CPU_ISA");
#if defined(__x86_64__)
  const char *const here = "x86_64", *const alias = "AMD64";
#elif defined(__aarch64__)
  const char *const here = "aarch64", *const alias = "arm64";
#else
  const char *const here = "", *const alias = "";
#endif
  tm_status status = TM_OK;
  if (compiled != NULL && *compiled != '\0' && strcmp(compiled, "cpu") != 0) {
    status = fail(TM_ERROR_UNSUPPORTED, "%s: compiled for the device %s; this library (torchlink capi --aoti-only) runs packages for the CPU", source->label, compiled);
  } else if (device != NULL && strcmp(device, "cpu") != 0) {
    status = fail(TM_ERROR_ARGUMENT, "%s: compiled for the device cpu, not for %s", source->label, device);
  } else if (machine != NULL && *machine != '\0' && *here != '\0' && strcmp(machine, here) != 0 && strcmp(machine, alias) != 0) {
    status = fail(TM_ERROR_UNSUPPORTED, "%s: compiled for %s, not for %s", source->label, machine, here);
  } else if (sets != NULL) {
    status = check_instructions(source, sets);
  }
  free(compiled);
  free(machine);
  free(sets);
  return status;
}

static int of_libtorch(const char *name) { /* whether libtorch is where a symbol comes from */
  static const char *const starts[] = {"aoti_", "torch_", "_ZN2at", "_ZNK2at", "_ZN3c10", "_ZNK3c10", "_ZN5torch", "_ZNK5torch"};
  for (size_t i = 0; i < sizeof starts / sizeof *starts; ++i) {
    if (strncmp(name, starts[i], strlen(starts[i])) == 0) return 1;
  }
  return 0;
}

/* libtorch_cpu.so, which is loaded: its symbols and those of what it needs. */
static void *libtorch(void) {
  Dl_info info;
  void *address = NULL;
  int32_t (*const function)(Tensor) = aoti_torch_delete_tensor_object;
  memcpy(&address, &function, sizeof address);
  return dladdr(address, &info) != 0 ? dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD) : NULL;
}

/* Check the symbols that a library needs from libtorch. */
static tm_status check_symbols(const Source *source, const unsigned char *content, size_t size) {
  Elf64_Ehdr header;
  if (size < sizeof header || memcmp(content, ELFMAG, SELFMAG) != 0) return fail(TM_ERROR_FILE, "%s: its library is no ELF file", source->label);
  memcpy(&header, content, sizeof header);
#if defined(__x86_64__)
  const int machine = EM_X86_64;
#elif defined(__aarch64__)
  const int machine = EM_AARCH64;
#else
  const int machine = header.e_machine;
#endif
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != machine || header.e_type != ET_DYN) {
    return fail(TM_ERROR_FILE, "%s: its library is for another machine", source->label);
  }
  if (header.e_shentsize != sizeof(Elf64_Shdr) || header.e_shoff > size || header.e_shnum > (size - header.e_shoff) / sizeof(Elf64_Shdr)) {
    return fail(TM_ERROR_FILE, "%s: its library is damaged", source->label);
  }
  void *const library = libtorch();
  if (library == NULL) return TM_OK;
  tm_status status = TM_OK;
  for (size_t i = 0; status == TM_OK && i < header.e_shnum; ++i) {
    Elf64_Shdr table, names;
    memcpy(&table, content + header.e_shoff + i * sizeof table, sizeof table);
    if (table.sh_type != SHT_DYNSYM || table.sh_link >= header.e_shnum) continue;
    memcpy(&names, content + header.e_shoff + table.sh_link * sizeof names, sizeof names);
    const int fits = table.sh_offset <= size && table.sh_size <= size - table.sh_offset && names.sh_offset <= size && names.sh_size <= size - names.sh_offset;
    if (!fits || names.sh_size == 0 || content[names.sh_offset + names.sh_size - 1] != '\0') {
      status = fail(TM_ERROR_FILE, "%s: its library is damaged", source->label);
      break;
    }
    for (size_t at = 0; status == TM_OK && at + sizeof(Elf64_Sym) <= table.sh_size; at += sizeof(Elf64_Sym)) {
      Elf64_Sym one;
      memcpy(&one, content + table.sh_offset + at, sizeof one);
      if (one.st_shndx != SHN_UNDEF || ELF64_ST_BIND(one.st_info) == STB_WEAK || one.st_name >= names.sh_size) continue;
      const char *const name = (const char *)content + names.sh_offset + one.st_name;
      if (strcmp(name, "aoti_torch_proxy_executor_call_function") == 0) {
        status = fail(TM_ERROR_UNSUPPORTED, "%s: it calls operators that are not compiled into it, which takes the C++ part of libtorch; use a library that torchlink capi built without --aoti-only", source->label);
      } else if (of_libtorch(name) && dlsym(library, name) == NULL) {
        status = fail(TM_ERROR_UNSUPPORTED, "%s: compiled for another version of libtorch: it needs %s, which this one does not have", source->label, name);
      }
    }
  }
  dlclose(library);
  return status;
}

/* ---- Models ---- */

typedef struct Named {
  char *name;
  int keyword_only;
} Named;

struct tm_model {
  void *library;
  Functions functions;
  Container *container;
  size_t inputs, outputs;
  Spec *taken, *given; /* null: the package has no call spec */
  Named *arguments;
  size_t count;
};

static void remove_directory(const char *path) {
  DIR *const directory = opendir(path);
  for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) unlinkat(dirfd(directory), entry->d_name, 0);
  }
  if (directory != NULL) closedir(directory);
  rmdir(path);
}

static tm_status write_file(const char *path, const unsigned char *content, size_t size) {
  const int descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
  if (descriptor < 0) return fail(TM_ERROR_FILE, "%s: %s", path, strerror(errno));
  for (size_t done = 0; done < size;) {
    const ssize_t wrote = write(descriptor, content + done, size - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) {
      const int reason = errno;
      close(descriptor);
      return fail(TM_ERROR_FILE, "%s: %s", path, strerror(reason));
    }
    done += (size_t)wrote;
  }
  close(descriptor);
  return TM_OK;
}

static const char *error_of(const Functions *functions) {
  const char *text = NULL;
  if (functions->last_error != NULL && functions->last_error(&text) == 0 && text != NULL && *text != '\0') return text;
  return "the package failed; it has printed the reason";
}

static tm_status take_functions(const Source *source, tm_model *model) {
  static const struct {
    const char *name;
    size_t offset;
    int optional;
  } all[] = {
      {"AOTInductorModelContainerCreateWithDevice", offsetof(Functions, create), 0},
      {"AOTInductorModelContainerDelete", offsetof(Functions, destroy), 0},
      {"AOTInductorModelContainerRun", offsetof(Functions, run), 0},
      {"AOTInductorModelContainerGetNumInputs", offsetof(Functions, input_count), 0},
      {"AOTInductorModelContainerGetNumOutputs", offsetof(Functions, output_count), 0},
      {"AOTInductorModelContainerGetCallSpec", offsetof(Functions, call_spec), 1},
      {"AOTInductorGetLastError", offsetof(Functions, last_error), 1},
  };
  for (size_t i = 0; i < sizeof all / sizeof *all; ++i) {
    void *const found = dlsym(model->library, all[i].name);
    if (found == NULL && !all[i].optional) return fail(TM_ERROR_FILE, "%s: its library is no compiled model: it has no %s", source->label, all[i].name);
    memcpy((char *)&model->functions + all[i].offset, &found, sizeof found);
  }
  return TM_OK;
}

static tm_status add_argument(tm_model *model, const char *name, int keyword_only) {
  model->arguments[model->count].name = strdup(name);
  if (model->arguments[model->count].name == NULL) return no_memory();
  model->arguments[model->count++].keyword_only = keyword_only;
  return TM_OK;
}

static tm_status read_specs(const Source *source, tm_model *model) {
  const char *in = NULL, *out = NULL;
  if (model->functions.call_spec == NULL || model->functions.call_spec(model->container, &in, &out) != 0) return TM_OK;
  if (in == NULL || out == NULL || *in == '\0' || *out == '\0') return TM_OK;
  model->taken = read_spec(in);
  model->given = read_spec(out);
  if (model->taken == NULL || model->given == NULL) return fail(TM_ERROR_FILE, "%s: the call spec of the package is of an unknown form", source->label);
  const Spec *const taken = model->taken;
  if (taken->count != 2 || taken->parts[0]->kind == TM_TENSOR || taken->parts[1]->kind != TM_DICT) {
    return fail(TM_ERROR_FILE, "%s: the call spec of the package is of an unknown form", source->label);
  }
  model->arguments = calloc(taken->parts[0]->count + taken->parts[1]->count + 1, sizeof *model->arguments);
  if (model->arguments == NULL) return no_memory();
  for (size_t i = 0; i < taken->parts[0]->count; ++i) {
    char name[64];
    snprintf(name, sizeof name, "argument %zu", i + 1);
    TRY(add_argument(model, name, 0));
  }
  for (size_t i = 0; i < taken->parts[1]->count; ++i) {
    const tm_value *const key = taken->parts[1]->keys[i];
    if (key->kind != TM_STRING) return fail(TM_ERROR_FILE, "%s: the call spec of the package is of an unknown form", source->label);
    TRY(add_argument(model, key->text, 1));
  }
  return TM_OK;
}

/* A package whose weights are not in its library would read them from nowhere. */
static tm_status check_weights(const Source *source, tm_model *model) {
  typedef struct Pair {
    const char *name;
    Tensor tensor;
  } Pair;
  int32_t (*count_of)(Container *, size_t *) = NULL, (*name_of)(Container *, size_t, const char **) = NULL;
  int32_t (*extract)(Container *, const Pair **, size_t *, _Bool) = NULL;
  void *found[] = {dlsym(model->library, "AOTInductorModelContainerGetNumConstants"), dlsym(model->library, "AOTInductorModelContainerGetConstantOriginalFQN"),
                   dlsym(model->library, "AOTInductorModelContainerExtractConstantsMapEntries")};
  if (found[0] == NULL || found[1] == NULL || found[2] == NULL) return TM_OK; /* of a libtorch before 2.13 */
  memcpy(&count_of, &found[0], sizeof found[0]);
  memcpy(&name_of, &found[1], sizeof found[1]);
  memcpy(&extract, &found[2], sizeof found[2]);
  size_t count = 0, set_count = 0;
  const Pair *set = NULL;
  if (count_of(model->container, &count) || extract(model->container, &set, &set_count, 0)) return TM_OK;
  for (size_t i = 0; i < count; ++i) {
    const char *name = NULL;
    if (name_of(model->container, i, &name) || name == NULL || *name == '\0') continue;
    int known = 0;
    for (size_t j = 0; !known && j < set_count; ++j) known = strcmp(set[j].name, name) == 0;
    if (!known) return fail(TM_ERROR_UNSUPPORTED, "%s: its weights are not in its library: %s is missing; compile it with package_constants_in_so", source->label, name);
  }
  return TM_OK;
}

/* Unpack a model to a directory, and open its library. */
static tm_status open_library(const Source *source, const Archive *archive, const char *name, const char *directory, tm_model *model) {
  char path[PATH_MAX], library[PATH_MAX] = "";
  uint64_t room = source->size > (UINT64_MAX >> 5) ? UINT64_MAX : source->size * GROWTH + ALLOWANCE;
  for (size_t i = 0; i < archive->count; ++i) {
    const Entry *const entry = &archive->entries[i];
    const char *found = NULL;
    size_t found_length = 0, length = 0;
    const char *const file = in_model(entry, &found, &found_length, &length);
    if (file == NULL || found_length != strlen(name) || memcmp(found, name, found_length) != 0 || !entry_ends(entry, ".so")) continue;
    if (length > 255 || memchr(file, '/', length) != NULL || memchr(file, '\0', length) != NULL) return damaged(source, "a name in it is not valid");
    if (entry->size > room) return damaged(source, "it unpacks to too much");
    room -= entry->size;
    const int wrapper = entry_ends(entry, ".wrapper.so") || *library == '\0';
    if (snprintf(path, sizeof path, "%s/%.*s", directory, (int)length, file) >= (int)sizeof path) return damaged(source, "a name in it is too long");
    unsigned char *content = NULL;
    TRY(unpack(source, entry, &content));
    tm_status status = wrapper ? check_symbols(source, content, (size_t)entry->size) : TM_OK;
    if (status == TM_OK) status = write_file(path, content, (size_t)entry->size);
    free(content);
    TRY(status);
    if (wrapper) memcpy(library, path, sizeof path);
  }
  if (*library == '\0') return fail(TM_ERROR_FILE, "%s: the package has no library", source->label);
  model->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  return model->library != NULL ? TM_OK : fail(TM_ERROR_FILE, "%s: %s", source->label, dlerror());
}

static void check_inputs(void) { /* else a package reads whatever memory follows a tensor of a wrong shape */
  setenv("AOTI_RUNTIME_CHECK_INPUTS", "1", 0);
}

static tm_status load_model(const Source *source, const Archive *archive, const char *name, tm_model *model) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  char directory[PATH_MAX];
  const char *const place = getenv("TMPDIR");
  if (snprintf(directory, sizeof directory, "%s/torchmodel-XXXXXX", place != NULL && *place != '\0' ? place : "/tmp") >= (int)sizeof directory) {
    return fail(TM_ERROR_FILE, "$TMPDIR: its path is too long");
  }
  if (mkdtemp(directory) == NULL) return fail(TM_ERROR_FILE, "%s: %s", directory, strerror(errno));
  pthread_once(&once, check_inputs);
  tm_status status = open_library(source, archive, name, directory, model);
  if (status == TM_OK) status = take_functions(source, model);
  if (status == TM_OK && model->functions.create(&model->container, 1, "cpu", directory) != 0) {
    model->container = NULL;
    status = fail(TM_ERROR_FILE, "%s: %s", source->label, error_of(&model->functions));
  }
  remove_directory(directory);
  TRY(status);
  if (model->functions.input_count(model->container, &model->inputs) || model->functions.output_count(model->container, &model->outputs)) {
    return fail(TM_ERROR_FILE, "%s: %s", source->label, error_of(&model->functions));
  }
  TRY(check_weights(source, model));
  return read_specs(source, model);
}

/* The one of the package's models that is asked for. */
static tm_status choose(const Source *source, const Archive *archive, const char *wanted, char *name, size_t size) {
  char all[1024] = "";
  size_t count = 0;
  int known = 0, usual = 0;
  for (size_t i = 0; i < archive->count; ++i) {
    const char *found = NULL;
    size_t found_length = 0, length = 0;
    char one[256], listed[260];
    if (in_model(&archive->entries[i], &found, &found_length, &length) == NULL || found_length >= sizeof one) continue;
    snprintf(one, sizeof one, "%.*s", (int)found_length, found);
    known = known || (wanted != NULL && strcmp(one, wanted) == 0);
    usual = usual || strcmp(one, "model") == 0;
    snprintf(listed, sizeof listed, "%s, ", one);
    if (strstr(all, listed) != NULL || strlen(all) + sizeof listed >= sizeof all) continue;
    strcat(all, listed);
    snprintf(name, size, "%s", one);
    ++count;
  }
  if (count == 0) return not_a_package(source, archive);
  all[strlen(all) - 2] = '\0';
  if (wanted != NULL && !known) return fail(TM_ERROR_ARGUMENT, "%s: the package has no model named %s; it has %s", source->label, wanted, all);
  if (wanted == NULL && count > 1 && !usual) return fail(TM_ERROR_ARGUMENT, "%s: the package has several models; name one of: %s", source->label, all);
  if (wanted != NULL || count > 1) snprintf(name, size, "%s", wanted != NULL ? wanted : "model");
  return TM_OK;
}

static tm_status load(const Source *source, const char *wanted, const char *device, tm_model **model) {
  char name[256];
  Archive archive = {NULL, NULL, 0};
  tm_model *made = NULL;
  if (device != NULL && strcmp(device, "cpu") != 0 && strncmp(device, "cuda", 4) != 0) return fail(TM_ERROR_ARGUMENT, "there is no device %s", device);
  if (source->size == 0) return fail(TM_ERROR_FILE, "%s: not a model: the file is empty", source->label);
  tm_status status = open_archive(source, &archive);
  if (status == TM_OK) status = choose(source, &archive, wanted, name, sizeof name);
  if (status == TM_OK) status = check_told(source, &archive, name, device);
  if (status == TM_OK && (made = calloc(1, sizeof *made)) == NULL) status = no_memory();
  if (status == TM_OK) status = load_model(source, &archive, name, made);
  free_archive(&archive);
  if (status == TM_OK) {
    *model = made;
  } else {
    tm_model_free(made);
  }
  return status;
}

static tm_status load_file(const char *path, const char *name, const char *device, tm_model **model) {
  struct stat status;
  NEED(path, "the path");
  NEED(model, "the out parameter");
  const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer would block */
  if (descriptor < 0 || fstat(descriptor, &status) != 0) {
    const int reason = errno;
    if (descriptor >= 0) close(descriptor);
    return fail(TM_ERROR_FILE, "%s: %s", path, strerror(reason));
  }
  tm_status result = TM_OK;
  if (!S_ISREG(status.st_mode)) {
    result = fail(TM_ERROR_FILE, "%s: %s", path, S_ISDIR(status.st_mode) ? strerror(EISDIR) : "not a regular file");
  } else {
    const Source source = {path, descriptor, NULL, (uint64_t)status.st_size};
    result = load(&source, name, device, model);
  }
  close(descriptor);
  return result;
}

/* Free the handles from `from` on. */
static void delete_all(Tensor *tensors, size_t from, size_t count) {
  for (size_t i = from; i < count; ++i) {
    if (tensors[i] != NULL) aoti_torch_delete_tensor_object(tensors[i]);
  }
}

/* Run the package. It takes the inputs; it gives `outputs`, of which null is None. */
static tm_status run(const tm_model *model, Tensor *inputs, size_t count, Tensor *outputs) {
  if (count != model->inputs) {
    delete_all(inputs, 0, count);
    return fail(TM_ERROR_TYPE, "the package takes %zu tensors, and %zu were given", model->inputs, count);
  }
  if (model->functions.run(model->container, inputs, count, outputs, model->outputs, NULL, NULL) == 0) return TM_OK;
  const char *const text = error_of(&model->functions);
  /* Its checks come before it takes the inputs. */
  if (strstr(text, "input_handles[") != NULL) delete_all(inputs, 0, count);
  return fail(TM_ERROR_MODEL, "%.*s", (int)strcspn(text, "\n"), text);
}

/* The value that lent the memory that an output lies in; null where libtorch owns it. */
static const tm_value *lender(const Flat *flat, Tensor output) {
  void *data = NULL;
  if (aoti_torch_get_data_ptr(output, &data)) return NULL;
  for (size_t i = 0; i < flat->count; ++i) {
    const tm_value *const one = flat->tensors[i]->owner != NULL ? flat->tensors[i]->owner : flat->tensors[i];
    if (one->begin != NULL && (const char *)data >= one->begin && (const char *)data < one->end) return one;
  }
  return NULL;
}

static tm_status result_of(const tm_model *model, const Flat *flat, Tensor *outputs, tm_value **result) {
  tm_value **const values = calloc(model->outputs + 1, sizeof *values);
  if (values == NULL) {
    delete_all(outputs, 0, model->outputs);
    return no_memory();
  }
  tm_status status = TM_OK;
  for (size_t i = 0; i < model->outputs; ++i) {
    if (status != TM_OK) {
      delete_all(outputs, i, i + 1);
    } else if (outputs[i] == NULL) {
      status = new_value(TM_NONE, &values[i]);
    } else {
      const tm_value *const owner = lender(flat, outputs[i]);
      status = new_tensor(outputs[i], &values[i]);
      if (status == TM_OK && owner != NULL) values[i]->owner = kept(owner);
    }
  }
  size_t at = 0;
  if (status == TM_OK && model->given != NULL && leaves(model->given) == model->outputs) {
    status = unflatten(model->given, values, &at, result);
  } else if (status == TM_OK && model->outputs == 1) {
    *result = kept(values[0]);
  } else if (status == TM_OK) {
    status = new_sequence(TM_TUPLE, (const tm_value *const *)values, model->outputs, result);
  }
  for (size_t i = 0; i < model->outputs; ++i) drop(values[i]);
  free(values);
  return status;
}

static tm_status gather(const tm_model *model, const tm_value *const *arguments, size_t count, const char *const *keywords,
                        const tm_value *const *keyword_values, size_t keyword_count, Flat *flat) {
  if (model->taken == NULL) {
    static const Spec leaf = {TM_TENSOR, NULL, NULL, 0};
    char name[64];
    if (keyword_count > 0) return fail(TM_ERROR_ARGUMENT, "the package takes no keyword arguments");
    for (size_t i = 0; i < count; ++i) {
      snprintf(name, sizeof name, "argument %zu", i + 1);
      TRY(flatten(&leaf, arguments[i], name, flat));
    }
    return TM_OK;
  }
  const size_t positions = model->taken->parts[0]->count;
  size_t used = 0;
  for (size_t i = 0; i < model->count; ++i) {
    const tm_value *value = i < count ? arguments[i] : NULL;
    for (size_t j = 0; value == NULL && model->arguments[i].keyword_only && j < keyword_count; ++j) {
      if (strcmp(keywords[j], model->arguments[i].name) != 0) continue;
      value = keyword_values[j];
      ++used;
    }
    if (value == NULL) return fail(TM_ERROR_TYPE, "the argument %s is missing; the package takes %zu arguments", model->arguments[i].name, model->count);
    const Spec *const spec = i < positions ? model->taken->parts[0]->parts[i] : model->taken->parts[1]->parts[i - positions];
    TRY(flatten(spec, value, model->arguments[i].name, flat));
  }
  if (count > model->count) return fail(TM_ERROR_TYPE, "the package takes %zu arguments, and %zu were given", model->count, count);
  if (used != keyword_count) return fail(TM_ERROR_TYPE, "the package has no such keyword argument, or it is given twice");
  return TM_OK;
}

static tm_status call(const tm_model *model, const Flat *flat, tm_value **result) {
  Tensor *const inputs = calloc(flat->count + 1, sizeof *inputs), *const outputs = calloc(model->outputs + 1, sizeof *outputs);
  tm_status status = inputs == NULL || outputs == NULL ? no_memory() : TM_OK;
  for (size_t i = 0; status == TM_OK && i < flat->count; ++i) {
    if (another_handle(flat->tensors[i]->tensor, &inputs[i])) {
      delete_all(inputs, 0, i);
      status = no_memory();
    }
  }
  if (status == TM_OK) status = run(model, inputs, flat->count, outputs);
  if (status == TM_OK) status = result_of(model, flat, outputs, result);
  free(inputs);
  free(outputs);
  return status;
}

/* ---- The shape that a package asks of an input ---- */

static pthread_mutex_t asking = PTHREAD_MUTEX_INITIALIZER;

/* A package prints what it rejects on std::cerr, too: whether that is silent. C++'s own ABI says where things are. */
static void silence(const tm_model *model, int silent) {
  enum { BADBIT = 1 };
  char *const stream = dlsym(model->library, "_ZSt4cerr");
  void *const symbol = dlsym(model->library, "_ZNSt9basic_iosIcSt11char_traitsIcEE5clearESt12_Ios_Iostate");
  void (*clear)(void *, int) = NULL;
  if (stream == NULL || symbol == NULL) return; /* another C++ library */
  memcpy(&clear, &symbol, sizeof symbol);
  clear(stream + (*(ptrdiff_t **)(void *)stream)[-3], silent ? BADBIT : 0);
}

typedef struct Asked { /* a tensor that a package takes, as far as it is known */
  int32_t dtype;
  int64_t sizes[TM_MOST_DIMENSIONS], strides[TM_MOST_DIMENSIONS];
  size_t dimensions;
} Asked;

enum { MOST_ASKED = 12 }; /* dimensions */

/*
 * Find it out by calling the package with tensors that it rejects: each has 12 dimensions without elements, on no device, until the
 * package has said what it wants of it.
 */
static tm_status ask(const tm_model *model, Asked *all, size_t index, int64_t *shape, int32_t *dimensions) {
  Tensor *const tensors = calloc(model->inputs + 1, sizeof *tensors), *const outputs = calloc(model->outputs + 1, sizeof *outputs);
  tm_status status = tensors == NULL || outputs == NULL ? no_memory() : TM_OK;
  size_t known = 0;
  for (size_t i = 0; i < model->inputs; ++i) {
    all[i].dtype = TM_FLOAT32;
    all[i].dimensions = 0;
    for (size_t j = 0; j < MOST_ASKED; ++j) {
      all[i].sizes[j] = 0;
      all[i].strides[j] = (int64_t)1 << 40; /* that nothing asks for */
    }
  }
  for (int tries = 0; status == TM_OK && known <= index; ++tries) {
    size_t made = 0;
    for (; status == TM_OK && made < model->inputs; ++made) {
      const int32_t device = made < known ? aoti_torch_device_type_cpu() : meta_device();
      const int64_t count = made < known ? (int64_t)all[made].dimensions : MOST_ASKED;
      if (aoti_torch_empty_strided(count, all[made].sizes, all[made].strides, all[made].dtype, device, 0, &tensors[made])) {
        delete_all(tensors, 0, made);
        status = no_memory();
      }
    }
    if (status != TM_OK) break;
    status = run(model, tensors, model->inputs, outputs);
    if (status == TM_OK) {
      delete_all(outputs, 0, model->outputs);
      status = fail(TM_ERROR_UNSUPPORTED, "the package does not check its inputs");
      break;
    }
    size_t input = 0, dimension = 0;
    long long number = 0;
    const char *const text = strstr(last_error, "input_handles[");
    if (tries > 4096 || text == NULL || sscanf(text, "input_handles[%zu]", &input) != 1 || input >= model->inputs) break;
    Asked *const one = &all[input];
    int least = 0;
    status = TM_OK;
    if (sscanf(text, "input_handles[%*u]: unmatched dtype, expected: %lld", &number) == 1) {
      one->dtype = (int32_t)number;
    } else if (sscanf(text, "input_handles[%*u]: unmatched dim value at %zu, expected: %lld", &dimension, &number) == 2 ||
               (least = sscanf(text, "input_handles[%*u]: dim value is too small at %zu, expected it to be >= %lld", &dimension, &number) == 2) ||
               sscanf(text, "input_handles[%*u]: dim value is too large at %zu, expected to be <= %lld", &dimension, &number) == 2) {
      if (dimension >= MOST_ASKED) status = fail(TM_ERROR_UNSUPPORTED, "the package takes a tensor of too many dimensions");
      if (status == TM_OK) one->sizes[dimension] = least && number < 2 ? 2 : number;
    } else if (sscanf(text, "input_handles[%*u]: unmatched stride value at %zu, expected: %lld", &dimension, &number) == 2) {
      if (dimension >= MOST_ASKED) status = fail(TM_ERROR_UNSUPPORTED, "the package takes a tensor of too many dimensions");
      if (status == TM_OK) one->strides[dimension] = number;
    } else if (strstr(text, "unmatched device type") != NULL && input == known) {
      int64_t next = 1;
      for (size_t i = one->dimensions; i-- > 0;) { /* what was not spoken of has any size, and the strides that follow */
        if (one->sizes[i] == 0) one->sizes[i] = 2;
        if (one->strides[i] == (int64_t)1 << 40) one->strides[i] = next;
        next = one->strides[i] * one->sizes[i];
      }
      ++known;
      continue;
    } else {
      status = fail(TM_ERROR_UNSUPPORTED, "the package does not say what it takes");
    }
    if (strstr(text, "dtype") == NULL && dimension + 1 > one->dimensions) one->dimensions = dimension + 1;
  }
  if (status == TM_OK) {
    memcpy(shape, all[index].sizes, all[index].dimensions * sizeof *shape);
    *dimensions = (int32_t)all[index].dimensions;
  }
  free(tensors);
  free(outputs);
  return status;
}

static tm_status check_method(const tm_model *model, const char *method) {
  NEED(model, "the model");
  NEED(method, "the method");
  if (strcmp(method, "forward") != 0) return fail(TM_ERROR_ARGUMENT, "the model has no method named %s; it has forward", method);
  return TM_OK;
}

static tm_status check_argument(const tm_model *model, const char *method, size_t index) {
  TRY(check_method(model, method));
  if (index >= model->count) return fail(TM_ERROR_ARGUMENT, "the method forward has no argument number %zu", index);
  return TM_OK;
}

/* ---- The functions of torchmodel.h ---- */

int32_t tm_version(void) {
  return TM_VERSION;
}

const char *tm_libtorch_version(void) {
  return TM_LIBTORCH_VERSION;
}

const char *tm_last_error(void) {
  return last_error;
}

static void *function_of_libtorch(const char *name) {
  void *const library = libtorch();
  void *const found = library != NULL ? dlsym(library, name) : NULL;
  if (library != NULL) dlclose(library);
  return found;
}

tm_status tm_set_threads(int32_t count) {
  if (count < 1) return fail(TM_ERROR_ARGUMENT, "%d is not a number of threads", (int)count);
  void *const found = function_of_libtorch("_ZN2at15set_num_threadsEi"); /* at::set_num_threads(int) */
  void (*set)(int) = NULL;
  if (found == NULL) return fail(TM_ERROR_UNSUPPORTED, "this libtorch does not export at::set_num_threads()");
  memcpy(&set, &found, sizeof found);
  set(count);
  return TM_OK;
}

tm_status tm_get_threads(int32_t *count) {
  NEED(count, "the out parameter");
  void *const found = function_of_libtorch("_ZN2at15get_num_threadsEv");
  int (*get)(void) = NULL;
  if (found == NULL) return fail(TM_ERROR_UNSUPPORTED, "this libtorch does not export at::get_num_threads()");
  memcpy(&get, &found, sizeof found);
  *count = get();
  return TM_OK;
}

tm_status tm_seed(uint64_t seed) {
  (void)seed;
  return fail(TM_ERROR_UNSUPPORTED, "libtorch has no C function that seeds its generators; use a library that torchlink capi built without --aoti-only");
}

tm_status tm_set_inference_mode(int32_t enabled) {
  (void)enabled; /* a package records no gradients */
  return TM_OK;
}

tm_status tm_device_count(int32_t *count) {
  NEED(count, "the out parameter");
  *count = 1;
  return TM_OK;
}

tm_status tm_device_name(int32_t index, const char **name) {
  NEED(name, "the out parameter");
  if (index != 0) return fail(TM_ERROR_ARGUMENT, "there is no device number %d", (int)index);
  *name = "cpu";
  return TM_OK;
}

tm_status tm_model_load(const char *path, const char *device, tm_model **model) {
  return load_file(path, NULL, device, model);
}

tm_status tm_model_load_named(const char *path, const char *name, const char *device, tm_model **model) {
  NEED(path, "the path");
  NEED(name, "the name");
  return load_file(path, name, device, model);
}

tm_status tm_model_load_memory(const void *data, size_t size, const char *device, tm_model **model) {
  NEED(data, "the data");
  NEED(model, "the out parameter");
  const Source source = {"the model in memory", -1, data, size};
  return load(&source, NULL, device, model);
}

tm_status tm_model_free(tm_model *model) {
  if (model == NULL) return TM_OK;
  if (model->container != NULL) model->functions.destroy(model->container);
  if (model->library != NULL) dlclose(model->library);
  for (size_t i = 0; i < model->count; ++i) free(model->arguments[i].name);
  free(model->arguments);
  free_spec(model->taken);
  free_spec(model->given);
  free(model);
  return TM_OK;
}

tm_status tm_model_method_count(const tm_model *model, size_t *count) {
  NEED(model, "the model");
  NEED(count, "the out parameter");
  *count = 1;
  return TM_OK;
}

tm_status tm_model_method_name(const tm_model *model, size_t index, const char **name) {
  NEED(model, "the model");
  NEED(name, "the out parameter");
  if (index != 0) return fail(TM_ERROR_ARGUMENT, "the model has no method number %zu", index);
  *name = "forward";
  return TM_OK;
}

tm_status tm_model_argument_count(const tm_model *model, const char *method, size_t *count) {
  NEED(model, "the model");
  NEED(count, "the out parameter");
  TRY(check_method(model, method));
  *count = model->count;
  return TM_OK;
}

tm_status tm_model_argument(const tm_model *model, const char *method, size_t index, tm_argument *argument) {
  TRY(check_argument(model, method, index));
  NEED(argument, "the out parameter");
  const Named *const found = &model->arguments[index];
  *argument = (tm_argument){found->name, "Any", "", 0, found->keyword_only};
  return TM_OK;
}

tm_status tm_model_argument_default(const tm_model *model, const char *method, size_t index, tm_value **value) {
  TRY(check_argument(model, method, index));
  NEED(value, "the out parameter");
  return fail(TM_ERROR_ARGUMENT, "the argument %s has no default", model->arguments[index].name);
}

tm_status tm_model_return_type(const tm_model *model, const char *method, const char **type) {
  TRY(check_method(model, method));
  NEED(type, "the out parameter");
  *type = "Any";
  return TM_OK;
}

tm_status tm_model_example_shape(const tm_model *model, const char *method, size_t index, int64_t *shape, int32_t *dimensions) {
  TRY(check_argument(model, method, index));
  NEED(shape, "the shape");
  NEED(dimensions, "the out parameter");
  if (index >= model->inputs) return fail(TM_ERROR_ARGUMENT, "the package has no input number %zu", index);
  Asked *const all = calloc(model->inputs + 1, sizeof *all);
  if (all == NULL) return no_memory();
  char before[sizeof last_error]; /* what the package rejected is no failure of this function */
  memcpy(before, last_error, sizeof before);
  pthread_mutex_lock(&asking);
  silence(model, 1);
  const tm_status status = ask(model, all, index, shape, dimensions);
  silence(model, 0);
  if (status == TM_OK) memcpy(last_error, before, sizeof before);
  pthread_mutex_unlock(&asking);
  free(all);
  return status;
}

tm_status tm_model_forward(const tm_model *model, const tm_value *const *arguments, size_t count, tm_value **result) {
  return tm_model_call(model, "forward", arguments, count, NULL, NULL, 0, result);
}

tm_status tm_model_call(const tm_model *model, const char *method, const tm_value *const *arguments, size_t count, const char *const *keywords, const tm_value *const *keyword_values, size_t keyword_count, tm_value **result) {
  TRY(check_method(model, method));
  NEED(result, "the out parameter");
  if (count > 0) NEED(arguments, "the array of values");
  if (keyword_count > 0) NEED(keywords, "the array of keywords");
  if (keyword_count > 0) NEED(keyword_values, "the array of values");
  for (size_t i = 0; i < count; ++i) {
    if (arguments[i] == NULL) return fail(TM_ERROR_ARGUMENT, "value %zu is null", i);
  }
  for (size_t i = 0; i < keyword_count; ++i) {
    NEED(keywords[i], "a keyword");
    NEED(keyword_values[i], "a keyword's value");
  }
  Flat flat = {NULL, 0, 0};
  tm_status status = gather(model, arguments, count, keywords, keyword_values, keyword_count, &flat);
  if (status == TM_OK) status = call(model, &flat, result);
  free(flat.tensors);
  return status;
}

tm_status tm_value_none(tm_value **value) {
  NEED(value, "the out parameter");
  return new_value(TM_NONE, value);
}

tm_status tm_value_bool(int32_t boolean, tm_value **value) {
  NEED(value, "the out parameter");
  TRY(new_value(TM_BOOL, value));
  (*value)->number = boolean != 0;
  return TM_OK;
}

tm_status tm_value_int(int64_t number, tm_value **value) {
  NEED(value, "the out parameter");
  TRY(new_value(TM_INT, value));
  (*value)->number = number;
  return TM_OK;
}

tm_status tm_value_float(double number, tm_value **value) {
  NEED(value, "the out parameter");
  TRY(new_value(TM_FLOAT, value));
  (*value)->real = number;
  return TM_OK;
}

tm_status tm_value_complex(double real, double imaginary, tm_value **value) {
  NEED(value, "the out parameter");
  TRY(new_value(TM_COMPLEX, value));
  (*value)->real = real;
  (*value)->imaginary = imaginary;
  return TM_OK;
}

tm_status tm_value_string(const char *text, size_t size, tm_value **value) {
  NEED(value, "the out parameter");
  if (size > 0) NEED(text, "the text");
  return new_text(text, size, value);
}

tm_status tm_value_list(const tm_value *const *items, size_t count, tm_value **value) {
  return new_sequence(TM_LIST, items, count, value);
}

tm_status tm_value_tuple(const tm_value *const *items, size_t count, tm_value **value) {
  return new_sequence(TM_TUPLE, items, count, value);
}

tm_status tm_value_dict(tm_value **value) {
  NEED(value, "the out parameter");
  return new_value(TM_DICT, value);
}

tm_status tm_value_dict_set(tm_value *dict, const tm_value *key, const tm_value *item) {
  NEED(dict, "the dict");
  NEED(key, "the key");
  NEED(item, "the item");
  if (dict->kind != TM_DICT) return wrong_kind(dict, "a dict");
  if (key->kind < TM_BOOL || key->kind > TM_STRING) return fail(TM_ERROR_TYPE, "%s cannot be a key of a dict", kind_name(key));
  int depth = 0;
  TRY(depth_around(&item, 1, &depth));
  TRY(put(dict, key, item));
  if (depth > dict->depth) dict->depth = depth;
  return TM_OK;
}

tm_status tm_value_copy(const tm_value *value, tm_value **copy) {
  NEED(value, "the value");
  NEED(copy, "the out parameter");
  *copy = kept(value);
  return TM_OK;
}

tm_status tm_value_free(tm_value *value) {
  drop(value);
  return TM_OK;
}

tm_status tm_value_kind(const tm_value *value, tm_kind *kind) {
  NEED(value, "the value");
  NEED(kind, "the out parameter");
  *kind = value->kind;
  return TM_OK;
}

tm_status tm_value_get_bool(const tm_value *value, int32_t *boolean) {
  NEED(value, "the value");
  NEED(boolean, "the out parameter");
  if (value->kind != TM_BOOL) return wrong_kind(value, "a bool");
  *boolean = (int32_t)value->number;
  return TM_OK;
}

tm_status tm_value_get_int(const tm_value *value, int64_t *number) {
  NEED(value, "the value");
  NEED(number, "the out parameter");
  if (value->kind != TM_INT) return wrong_kind(value, "an int");
  *number = value->number;
  return TM_OK;
}

tm_status tm_value_get_float(const tm_value *value, double *number) {
  NEED(value, "the value");
  NEED(number, "the out parameter");
  if (value->kind != TM_FLOAT) return wrong_kind(value, "a float");
  *number = value->real;
  return TM_OK;
}

tm_status tm_value_get_complex(const tm_value *value, double *real, double *imaginary) {
  NEED(value, "the value");
  NEED(real, "the out parameter");
  NEED(imaginary, "the out parameter");
  if (value->kind != TM_COMPLEX) return wrong_kind(value, "a complex number");
  *real = value->real;
  *imaginary = value->imaginary;
  return TM_OK;
}

tm_status tm_value_get_string(const tm_value *value, const char **text, size_t *size) {
  NEED(value, "the value");
  NEED(text, "the out parameter");
  if (value->kind != TM_STRING) return wrong_kind(value, "a string");
  *text = value->text;
  if (size != NULL) *size = value->size;
  return TM_OK;
}

tm_status tm_value_length(const tm_value *value, size_t *length) {
  NEED(value, "the value");
  NEED(length, "the out parameter");
  if (value->kind < TM_LIST || value->kind > TM_DICT) return wrong_kind(value, "a list, tuple or dict");
  *length = value->size;
  return TM_OK;
}

tm_status tm_value_item(const tm_value *value, size_t index, tm_value **item) {
  NEED(value, "the value");
  NEED(item, "the out parameter");
  if (value->kind < TM_LIST || value->kind > TM_DICT) return wrong_kind(value, "a list, tuple or dict");
  if (index >= value->size) return fail(TM_ERROR_ARGUMENT, "there is no item number %zu", index);
  *item = kept(value->items[index]);
  return TM_OK;
}

tm_status tm_value_key(const tm_value *dict, size_t index, tm_value **key) {
  NEED(dict, "the dict");
  NEED(key, "the out parameter");
  if (dict->kind != TM_DICT) return wrong_kind(dict, "a dict");
  if (index >= dict->size) return fail(TM_ERROR_ARGUMENT, "the dict has no entry number %zu", index);
  *key = kept(dict->keys[index]);
  return TM_OK;
}

tm_status tm_value_get(const tm_value *value, const char *key, tm_value **item) {
  NEED(value, "the value");
  NEED(key, "the key");
  NEED(item, "the out parameter");
  if (value->kind != TM_DICT && value->kind != TM_TUPLE) return wrong_kind(value, "a dict or a named tuple");
  for (size_t i = 0; value->kind == TM_DICT && i < value->size; ++i) {
    if (value->keys[i]->kind != TM_STRING || strcmp(value->keys[i]->text, key) != 0) continue;
    *item = kept(value->items[i]);
    return TM_OK;
  }
  return fail(TM_ERROR_ARGUMENT, "there is no item named %s", key);
}

tm_status tm_dtype_size(tm_dtype dtype, size_t *size) {
  NEED(size, "the out parameter");
  return element_size(dtype, size);
}

tm_status tm_tensor_copy(const void *data, tm_dtype dtype, const int64_t *shape, int32_t dimensions, const int64_t *strides, tm_value **value) {
  Tensor tensor = NULL;
  int64_t bytes = 0;
  NEED(value, "the out parameter");
  TRY(over(data, dtype, shape, dimensions, strides, &tensor, &bytes));
  const tm_status status = converted(tensor, dtype, value);
  aoti_torch_delete_tensor_object(tensor);
  return status;
}

tm_status tm_tensor_borrow(void *data, tm_dtype dtype, const int64_t *shape, int32_t dimensions, const int64_t *strides, void (*release)(void *context), void *context, tm_value **value) {
  Tensor tensor = NULL;
  int64_t bytes = 0;
  NEED(value, "the out parameter");
  TRY(over(data, dtype, shape, dimensions, strides, &tensor, &bytes));
  TRY(new_tensor(tensor, value));
  (*value)->begin = data;
  (*value)->end = (const char *)data + bytes;
  (*value)->release = release;
  (*value)->context = context;
  return TM_OK;
}

tm_status tm_tensor_get_info(const tm_value *value, tm_tensor_info *info) {
  Tensor tensor = NULL;
  TRY(of_tensor(value, &tensor));
  NEED(info, "the out parameter");
  tm_tensor_info found;
  TRY(describe(tensor, &found));
  *info = found;
  return TM_OK;
}

tm_status tm_tensor_to_cpu(const tm_value *value, tm_value **result) {
  Tensor tensor = NULL;
  tm_tensor_info info;
  TRY(of_tensor(value, &tensor));
  NEED(result, "the out parameter");
  TRY(describe(tensor, &info));
  if (!info.is_cpu || !info.is_contiguous) return converted(tensor, info.dtype, result);
  *result = kept(value);
  return TM_OK;
}

tm_status tm_tensor_to_device(const tm_value *value, const char *device, tm_value **result) {
  Tensor tensor = NULL;
  TRY(of_tensor(value, &tensor));
  NEED(device, "the device");
  NEED(result, "the out parameter");
  if (strcmp(device, "cpu") != 0) return fail(TM_ERROR_UNSUPPORTED, "this library (torchlink capi --aoti-only) runs on the CPU, not on %s", device);
  return tm_tensor_to_cpu(value, result);
}

tm_status tm_tensor_to_dtype(const tm_value *value, tm_dtype dtype, tm_value **result) {
  Tensor tensor = NULL;
  tm_tensor_info info;
  size_t size = 0;
  TRY(of_tensor(value, &tensor));
  NEED(result, "the out parameter");
  TRY(element_size(dtype, &size));
  TRY(describe(tensor, &info));
  if (info.dtype != dtype) return converted(tensor, dtype, result);
  *result = kept(value);
  return TM_OK;
}

tm_status tm_tensor_read(const tm_value *value, void *buffer, size_t size) {
  Tensor tensor = NULL;
  tm_tensor_info info;
  tm_value *dense = NULL;
  TRY(of_tensor(value, &tensor));
  TRY(describe(tensor, &info));
  const size_t bytes = (size_t)info.elements * (size_t)info.element_size;
  if (bytes != size) return fail(TM_ERROR_ARGUMENT, "the tensor has %zu bytes, and the buffer %zu", bytes, size);
  if (bytes == 0) return TM_OK;
  NEED(buffer, "the buffer");
  TRY(tm_tensor_to_cpu(value, &dense));
  const tm_status status = describe(dense->tensor, &info);
  if (status == TM_OK) memcpy(buffer, info.data, bytes);
  drop(dense);
  return status;
}
