/*
 * torchmodel: a C API over libtorch, for languages that have no C++.
 *
 * Status     Every function returns a status, except the three that return text or a number and cannot fail. Where it
 *            is not TM_OK, tm_last_error() has the message, and nothing was written to the out parameters.
 * Ownership  A function that writes a `tm_model *` or a `tm_value *` through an out parameter gives it to the caller,
 *            who frees it once, with tm_model_free() or tm_value_free(). Values that are passed in stay the caller's: lists,
 *            tuples, dicts and calls keep what they need. Pointers to text, shapes and data belong to the value or model that
 *            they were read from, and are valid until it is freed.
 * Threads    Any number of threads may call one model at once. One value may be read by several threads; it is
 *            freed, and a dict is filled, by one.
 * Calls      Run in inference mode (no gradients are recorded); see tm_set_inference_mode().
 */
#ifndef TORCHMODEL_H
#define TORCHMODEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TM_VERSION 1 /* of this API; a library of the same major version (its soname) has all of these functions */

#if defined(_WIN32)
#define TM_API
#elif defined(__GNUC__)
#define TM_API __attribute__((visibility("default")))
#else
#define TM_API
#endif

typedef struct tm_model tm_model;
typedef struct tm_value tm_value;

typedef int32_t tm_status;
enum {
  TM_OK = 0,
  TM_ERROR_ARGUMENT = 1,    /* a null pointer, an index out of range, an invalid dtype or shape */
  TM_ERROR_FILE = 2,        /* the model cannot be read, or is of another kind */
  TM_ERROR_TYPE = 3,        /* a value is of another kind than the function or the model takes */
  TM_ERROR_MODEL = 4,       /* libtorch or the model failed: wrong shapes, an exception in the model */
  TM_ERROR_MEMORY = 5,      /* out of memory */
  TM_ERROR_UNSUPPORTED = 6  /* this libtorch or this kind of model cannot do it */
};

typedef int32_t tm_kind;
enum {
  TM_NONE = 0,
  TM_BOOL = 1,
  TM_INT = 2,
  TM_FLOAT = 3,
  TM_COMPLEX = 4,
  TM_STRING = 5,
  TM_TENSOR = 6,
  TM_LIST = 7,
  TM_TUPLE = 8,
  TM_DICT = 9,
  TM_OTHER = 10 /* an object, a device, a generator: it can be passed on, not read */
};

/* The numbers are those of c10::ScalarType. */
typedef int32_t tm_dtype;
enum {
  TM_UINT8 = 0,
  TM_INT8 = 1,
  TM_INT16 = 2,
  TM_INT32 = 3,
  TM_INT64 = 4,
  TM_FLOAT16 = 5,
  TM_FLOAT32 = 6,
  TM_FLOAT64 = 7,
  TM_COMPLEX32 = 8,
  TM_COMPLEX64 = 9,
  TM_COMPLEX128 = 10,
  TM_BOOL8 = 11,
  TM_BFLOAT16 = 15,
  TM_FLOAT8_E5M2 = 23,
  TM_FLOAT8_E4M3FN = 24,
  TM_UINT16 = 27,
  TM_UINT32 = 28,
  TM_UINT64 = 29
};

/* What a tensor is. The pointers belong to the value. */
typedef struct tm_tensor_info {
  void *data;             /* of the first element; null where the device is not the CPU */
  const int64_t *shape;   /* `dimensions` sizes */
  const int64_t *strides; /* `dimensions` strides, in elements */
  int64_t elements;       /* how many */
  int32_t dimensions;
  tm_dtype dtype;
  int32_t element_size;   /* bytes */
  int32_t is_contiguous;  /* 1: `data` has `elements * element_size` bytes in row-major order */
  int32_t is_cpu;
} tm_tensor_info;

/* One argument of a method. The pointers belong to the model. */
typedef struct tm_argument {
  const char *name;
  const char *type;         /* as TorchScript writes it: "Tensor", "Optional[int]", "List[str]", … */
  const char *default_text; /* of its default, "" where it has none */
  int32_t has_default;
  int32_t keyword_only;
} tm_argument;

/* ---- The library ---- */

/* TM_VERSION of the library that is loaded. */
TM_API int32_t tm_version(void);
/* The version of the libtorch that it was built for, such as "2.13.0". */
TM_API const char *tm_libtorch_version(void);
/* The message of this thread's last failure, in UTF-8; valid until its next failure. "" where there was none. */
TM_API const char *tm_last_error(void);

/* How many threads one operator uses. */
TM_API tm_status tm_set_threads(int32_t count);
TM_API tm_status tm_get_threads(int32_t *count);
/* Seed of the random numbers of every device. */
TM_API tm_status tm_seed(uint64_t seed);
/* Whether calls from this thread run in inference mode (1, the default) or record gradients where a model does (0). */
TM_API tm_status tm_set_inference_mode(int32_t enabled);
/* The devices that models can be loaded on: "cpu" is number 0, then "cuda:0", …; `name` is valid for ever. */
TM_API tm_status tm_device_count(int32_t *count);
TM_API tm_status tm_device_name(int32_t index, const char **name);

/* ---- Models ---- */

/*
 * Load a TorchScript model or an AOTInductor package (.pt2).
 *   path    in UTF-8
 *   device  "cpu", "cuda", "cuda:1", …; null: the CPU, or for a package the device that it was compiled for
 */
TM_API tm_status tm_model_load(const char *path, const char *device, tm_model **model);
/* The same from memory, which may be freed afterwards. A package is written to a temporary file. */
TM_API tm_status tm_model_load_memory(const void *data, size_t size, const char *device, tm_model **model);
/* One of the models of a package that holds several, by its name. */
TM_API tm_status tm_model_load_named(const char *path, const char *name, const char *device, tm_model **model);
/* Null is accepted. Values that a model has returned stay valid. */
TM_API tm_status tm_model_free(tm_model *model);

/* Methods are numbered from 0. A package has one, "forward". */
TM_API tm_status tm_model_method_count(const tm_model *model, size_t *count);
TM_API tm_status tm_model_method_name(const tm_model *model, size_t index, const char **name);
TM_API tm_status tm_model_argument_count(const tm_model *model, const char *method, size_t *count);
TM_API tm_status tm_model_argument(const tm_model *model, const char *method, size_t index, tm_argument *argument);
/* The default of an argument, as a value of its own; TM_ERROR_ARGUMENT where it has none. */
TM_API tm_status tm_model_argument_default(const tm_model *model, const char *method, size_t index, tm_value **value);
/* The type that a method returns, as TorchScript writes it; "Any" for a package. */
TM_API tm_status tm_model_return_type(const tm_model *model, const char *method, const char **type);

/*
 * A shape that the tensor argument number `index` may have, for first programs and smoke tests: a guess from the model's weights, or
 * what a package says of its input. `shape` has room for TM_MOST_DIMENSIONS sizes. TM_ERROR_TYPE where the argument is no tensor.
 */
#define TM_MOST_DIMENSIONS 64
TM_API tm_status tm_model_example_shape(const tm_model *model, const char *method, size_t index, int64_t *shape,
                                        int32_t *dimensions);

/* Call forward with `count` positional arguments; missing ones take their defaults. */
TM_API tm_status tm_model_forward(const tm_model *model, const tm_value *const *arguments, size_t count, tm_value **result);
/* Call any method, also with keyword arguments. */
TM_API tm_status tm_model_call(const tm_model *model, const char *method, const tm_value *const *arguments, size_t count,
                               const char *const *keywords, const tm_value *const *keyword_values, size_t keyword_count,
                               tm_value **result);

/* ---- Values ---- */

TM_API tm_status tm_value_none(tm_value **value);
TM_API tm_status tm_value_bool(int32_t boolean, tm_value **value);
TM_API tm_status tm_value_int(int64_t number, tm_value **value);
TM_API tm_status tm_value_float(double number, tm_value **value);
TM_API tm_status tm_value_complex(double real, double imaginary, tm_value **value);
/* `size` bytes of UTF-8, which are copied; they need no terminating zero. */
TM_API tm_status tm_value_string(const char *text, size_t size, tm_value **value);
TM_API tm_status tm_value_list(const tm_value *const *items, size_t count, tm_value **value);
TM_API tm_status tm_value_tuple(const tm_value *const *items, size_t count, tm_value **value);
/* An empty dict, and an entry more; a key is a string, bool, int, float or complex number. */
TM_API tm_status tm_value_dict(tm_value **value);
TM_API tm_status tm_value_dict_set(tm_value *dict, const tm_value *key, const tm_value *item);
/* Another handle of the same value: what it refers to (a tensor's elements, a dict) is shared. */
TM_API tm_status tm_value_copy(const tm_value *value, tm_value **copy);
/* Null is accepted. */
TM_API tm_status tm_value_free(tm_value *value);

TM_API tm_status tm_value_kind(const tm_value *value, tm_kind *kind);
TM_API tm_status tm_value_get_bool(const tm_value *value, int32_t *boolean);
TM_API tm_status tm_value_get_int(const tm_value *value, int64_t *number);
TM_API tm_status tm_value_get_float(const tm_value *value, double *number);
TM_API tm_status tm_value_get_complex(const tm_value *value, double *real, double *imaginary);
/* UTF-8 with a terminating zero, which `size` does not count. `size` may be null. */
TM_API tm_status tm_value_get_string(const tm_value *value, const char **text, size_t *size);
/* Of a list, tuple or dict: how many items, and each; of a dict in its order, and its keys. */
TM_API tm_status tm_value_length(const tm_value *value, size_t *length);
TM_API tm_status tm_value_item(const tm_value *value, size_t index, tm_value **item);
TM_API tm_status tm_value_key(const tm_value *dict, size_t index, tm_value **key);
/* The item of a dict under a string, and of a named tuple. */
TM_API tm_status tm_value_get(const tm_value *value, const char *key, tm_value **item);

/* ---- Tensors ---- */

/* The size of one element in bytes. */
TM_API tm_status tm_dtype_size(tm_dtype dtype, size_t *size);
/* A tensor on the CPU with a copy of `data`. `strides` counts elements; null: row-major order. */
TM_API tm_status tm_tensor_copy(const void *data, tm_dtype dtype, const int64_t *shape, int32_t dimensions,
                                const int64_t *strides, tm_value **value);
/*
 * A tensor on the CPU over the caller's memory, without a copy. The memory must stay as it is until `release(context)` is called,
 * from any thread, when the last value and model that use it are done with it. `release` may be null. Where this
 * function fails, `release` is not called.
 */
TM_API tm_status tm_tensor_borrow(void *data, tm_dtype dtype, const int64_t *shape, int32_t dimensions,
                                  const int64_t *strides, void (*release)(void *context), void *context,
                                  tm_value **value);
/* What a tensor is, and where its elements are: nothing is copied. */
TM_API tm_status tm_tensor_get_info(const tm_value *value, tm_tensor_info *info);
/* The same tensor on the CPU in row-major order; the same elements where it is so already. */
TM_API tm_status tm_tensor_to_cpu(const tm_value *value, tm_value **result);
TM_API tm_status tm_tensor_to_device(const tm_value *value, const char *device, tm_value **result);
TM_API tm_status tm_tensor_to_dtype(const tm_value *value, tm_dtype dtype, tm_value **result);
/* Copy the elements, in row-major order and from any device, to a buffer of exactly `size` bytes. */
TM_API tm_status tm_tensor_read(const tm_value *value, void *buffer, size_t size);

#ifdef __cplusplus
}
#endif
#endif
