/*
 * What R/torchmodel.R calls, over the C API in .torchlink/capi. Models and values are external pointers, which R's garbage collector
 * frees. A failure of the C API is returned as a `torch_failure`, which R/torchmodel.R raises.
 */
#include <string.h>
#include <torchmodel.h>

#define R_NO_REMAP
#include <R.h>
#include <R_ext/Rdynload.h>
#include <Rinternals.h>

/* R sees pointers, not the elements behind them: it is made to collect them when they have grown by this. */
#define LEAST_GROWTH (64.0 * 1024 * 1024)
static double in_use, collect_at = LEAST_GROWTH;

static double size_of(const tm_value *value) {
  tm_kind kind;
  tm_tensor_info info;
  if (tm_value_kind(value, &kind) != TM_OK || kind != TM_TENSOR || tm_tensor_get_info(value, &info) != TM_OK) return 0;
  return (double)info.elements * info.element_size;
}

/* ---- Failures ---- */

static SEXP failure(tm_status status, const char *message) {
  SEXP result = PROTECT(Rf_allocVector(STRSXP, 1));
  SET_STRING_ELT(result, 0, Rf_mkCharCE(message, CE_UTF8));
  Rf_setAttrib(result, Rf_install("status"), Rf_ScalarInteger(status));
  Rf_setAttrib(result, R_ClassSymbol, Rf_mkString("torch_failure"));
  UNPROTECT(1);
  return result;
}

#define TRY(call)                                                           \
  do {                                                                      \
    const tm_status status_ = (call);                                       \
    if (status_ != TM_OK) return failure(status_, tm_last_error());         \
  } while (0)

/* ---- Handles ---- */

static void finalize_model(SEXP pointer) {
  tm_model_free(R_ExternalPtrAddr(pointer));
  R_ClearExternalPtr(pointer);
}

static void finalize_value(SEXP pointer) {
  tm_value *value = R_ExternalPtrAddr(pointer);
  if (value != NULL) in_use -= size_of(value);
  tm_value_free(value);
  R_ClearExternalPtr(pointer);
}

/* A pointer that owns nothing yet, so that nothing is lost where R is out of memory. */
static SEXP empty(const char *class, R_CFinalizer_t finalizer) {
  SEXP result = PROTECT(R_MakeExternalPtr(NULL, Rf_install(class), R_NilValue));
  R_RegisterCFinalizerEx(result, finalizer, TRUE);
  Rf_setAttrib(result, R_ClassSymbol, Rf_mkString(class));
  UNPROTECT(1);
  return result;
}

/* Fill an empty value with what a call of the C API wrote, and return it or the failure. */
static SEXP filled(SEXP result, tm_status status, tm_value *value) {
  PROTECT(result);
  if (status != TM_OK) {
    UNPROTECT(1);
    return failure(status, tm_last_error());
  }
  R_SetExternalPtrAddr(result, value);
  in_use += size_of(value);
  if (in_use > collect_at) {
    R_gc();
    collect_at = 2 * in_use > LEAST_GROWTH ? 2 * in_use : LEAST_GROWTH;
  }
  UNPROTECT(1);
  return result;
}

#define NEW_VALUE(result) SEXP result = PROTECT(empty("torch_value", finalize_value))
#define RETURN(result, call)                       \
  do {                                             \
    const tm_status made_ = (call);                \
    SEXP filled_ = filled(result, made_, value);   \
    UNPROTECT(1);                                  \
    return filled_;                                \
  } while (0)

static void *pointer_of(SEXP pointer, const char *class, const char *what) {
  void *address = NULL;
  if (TYPEOF(pointer) == EXTPTRSXP && R_ExternalPtrTag(pointer) == Rf_install(class)) address = R_ExternalPtrAddr(pointer);
  if (address == NULL) Rf_error("not %s of this session", what);
  return address;
}

static tm_model *model_of(SEXP pointer) {
  return pointer_of(pointer, "torch_model", "a model");
}

static tm_value *value_of(SEXP pointer) {
  return pointer_of(pointer, "torch_value", "a value");
}

/* The values of a list, in memory that R frees after the call. */
static const tm_value **values_of(SEXP list) {
  const R_xlen_t count = Rf_xlength(list);
  const tm_value **values = (const tm_value **)R_alloc((size_t)count + 1, sizeof *values);
  R_xlen_t i;
  for (i = 0; i < count; ++i) values[i] = value_of(VECTOR_ELT(list, i));
  return values;
}

/* ---- Models ---- */

static SEXP load(SEXP path, SEXP device) {
  tm_model *model;
  SEXP result = PROTECT(empty("torch_model", finalize_model));
  const char *file = Rf_translateCharUTF8(STRING_ELT(path, 0)), *where = Rf_translateCharUTF8(STRING_ELT(device, 0));
  const tm_status status = tm_model_load(file, where, &model);
  if (status == TM_OK) R_SetExternalPtrAddr(result, model);
  UNPROTECT(1);
  return status == TM_OK ? result : failure(status, tm_last_error());
}

/* The example shape of an argument, numbered from 0; NULL behind the last one without a default. */
static SEXP example_shape(SEXP pointer, SEXP index) {
  const tm_model *model = model_of(pointer);
  const size_t number = (size_t)Rf_asInteger(index);
  size_t count;
  tm_argument argument;
  int64_t shape[TM_MOST_DIMENSIONS];
  int32_t dimensions, d;
  SEXP result;
  TRY(tm_model_argument_count(model, "forward", &count));
  if (number >= count) return R_NilValue;
  TRY(tm_model_argument(model, "forward", number, &argument));
  if (argument.has_default) return R_NilValue;
  TRY(tm_model_example_shape(model, "forward", number, shape, &dimensions));
  result = Rf_allocVector(REALSXP, dimensions);
  for (d = 0; d < dimensions; ++d) REAL(result)[d] = (double)shape[d];
  return result;
}

static SEXP forward(SEXP pointer, SEXP arguments) {
  const tm_model *model = model_of(pointer);
  const tm_value **values = values_of(arguments);
  tm_value *value = NULL;
  NEW_VALUE(result);
  RETURN(result, tm_model_forward(model, values, (size_t)Rf_xlength(arguments), &value));
}

/* ---- Values ---- */

/* NULL, or a vector of one: a logical, integer, double, complex number or string. */
static SEXP scalar(SEXP plain) {
  tm_value *value = NULL;
  tm_status status = TM_ERROR_TYPE;
  NEW_VALUE(result);
  switch (TYPEOF(plain)) {
    case NILSXP: status = tm_value_none(&value); break;
    case LGLSXP: status = tm_value_bool(LOGICAL(plain)[0], &value); break;
    case INTSXP: status = tm_value_int(INTEGER(plain)[0], &value); break;
    case REALSXP: status = tm_value_float(REAL(plain)[0], &value); break;
    case CPLXSXP: status = tm_value_complex(COMPLEX(plain)[0].r, COMPLEX(plain)[0].i, &value); break;
    case STRSXP: {
      const char *text = Rf_translateCharUTF8(STRING_ELT(plain, 0));
      status = tm_value_string(text, strlen(text), &value);
      break;
    }
    default: Rf_error("a model does not take this type of R"); /* checked in R */
  }
  RETURN(result, status);
}

/* An int beyond R's integers, from a whole double. */
static SEXP whole(SEXP number) {
  tm_value *value = NULL;
  NEW_VALUE(result);
  RETURN(result, tm_value_int((int64_t)Rf_asReal(number), &value));
}

static SEXP list(SEXP items, SEXP as_tuple) {
  const tm_value **values = values_of(items);
  const size_t count = (size_t)Rf_xlength(items);
  tm_value *value = NULL;
  NEW_VALUE(result);
  RETURN(result, Rf_asLogical(as_tuple) ? tm_value_tuple(values, count, &value) : tm_value_list(values, count, &value));
}

static SEXP dict(SEXP names, SEXP items) {
  const R_xlen_t count = Rf_xlength(items);
  const tm_value **values = values_of(items);
  tm_value *value = NULL;
  R_xlen_t i;
  NEW_VALUE(result);
  if (tm_value_dict(&value) != TM_OK) {
    UNPROTECT(1);
    return failure(TM_ERROR_MEMORY, tm_last_error());
  }
  R_SetExternalPtrAddr(result, value); /* which frees it from here on */
  for (i = 0; i < count; ++i) {
    const char *name = Rf_translateCharUTF8(STRING_ELT(names, i));
    tm_value *key;
    tm_status status = tm_value_string(name, strlen(name), &key);
    if (status == TM_OK) {
      status = tm_value_dict_set(value, key, values[i]);
      tm_value_free(key);
    }
    if (status != TM_OK) {
      UNPROTECT(1);
      return failure(status, tm_last_error());
    }
  }
  UNPROTECT(1);
  return result;
}

static SEXP kind(SEXP pointer) {
  static const char *const names[] = {"none", "bool", "int", "float", "complex", "string", "tensor", "list", "tuple", "dict", "other"};
  tm_kind number;
  TRY(tm_value_kind(value_of(pointer), &number));
  return Rf_mkString(names[number]);
}

/* A value of one as R's own. */
static SEXP plain(SEXP pointer) {
  const tm_value *value = value_of(pointer);
  tm_kind number;
  TRY(tm_value_kind(value, &number));
  if (number == TM_BOOL) {
    int32_t boolean;
    TRY(tm_value_get_bool(value, &boolean));
    return Rf_ScalarLogical(boolean != 0);
  }
  if (number == TM_INT) {
    int64_t integer;
    TRY(tm_value_get_int(value, &integer));
    /* The least integer of C is R's NA. */
    if (integer > INT32_MIN && integer <= INT32_MAX) return Rf_ScalarInteger((int)integer);
    return Rf_ScalarReal((double)integer);
  }
  if (number == TM_FLOAT) {
    double real;
    TRY(tm_value_get_float(value, &real));
    return Rf_ScalarReal(real);
  }
  if (number == TM_COMPLEX) {
    Rcomplex complex;
    TRY(tm_value_get_complex(value, &complex.r, &complex.i));
    return Rf_ScalarComplex(complex);
  }
  if (number == TM_STRING) {
    const char *text;
    size_t size;
    TRY(tm_value_get_string(value, &text, &size));
    if (strlen(text) != size) return failure(TM_ERROR_TYPE, "R's strings cannot have the zero byte that this one has");
    return Rf_ScalarString(Rf_mkCharLenCE(text, (int)size, CE_UTF8));
  }
  return R_NilValue;
}

/* The items, or the keys, of a list, tuple or dict. */
static SEXP each(SEXP pointer, SEXP as_keys) {
  const tm_value *value = value_of(pointer);
  size_t length, i;
  SEXP result;
  TRY(tm_value_length(value, &length));
  result = PROTECT(Rf_allocVector(VECSXP, (R_xlen_t)length));
  for (i = 0; i < length; ++i) {
    tm_value *item = NULL;
    SEXP one = PROTECT(empty("torch_value", finalize_value));
    const tm_status status = Rf_asLogical(as_keys) ? tm_value_key(value, i, &item) : tm_value_item(value, i, &item);
    one = filled(one, status, item);
    UNPROTECT(1);
    if (status != TM_OK) {
      UNPROTECT(1);
      return one;
    }
    SET_VECTOR_ELT(result, (R_xlen_t)i, one);
  }
  UNPROTECT(1);
  return result;
}

/* ---- Tensors ---- */

/* A tensor of doubles, integers, logicals, complex numbers or bytes, converted to a dtype. R's arrays are in column-major order. */
static SEXP tensor(SEXP numbers, SEXP shape, SEXP dtype) {
  const int32_t dimensions = (int32_t)Rf_xlength(shape);
  int64_t sizes[TM_MOST_DIMENSIONS], strides[TM_MOST_DIMENSIONS], stride = 1;
  const void *data = NULL;
  tm_dtype own = TM_FLOAT64;
  tm_value *whole_value = NULL, *value = NULL;
  tm_status status;
  int32_t d;
  NEW_VALUE(result);
  if (dimensions > TM_MOST_DIMENSIONS) Rf_error("the tensor has more than %d dimensions", TM_MOST_DIMENSIONS);
  for (d = 0; d < dimensions; ++d) {
    sizes[d] = (int64_t)REAL(shape)[d];
    strides[d] = stride;
    stride *= sizes[d] > 0 ? sizes[d] : 1;
  }
  switch (TYPEOF(numbers)) {
    case LGLSXP: data = LOGICAL(numbers); own = TM_INT32; break;
    case INTSXP: data = INTEGER(numbers); own = TM_INT32; break;
    case REALSXP: data = REAL(numbers); own = TM_FLOAT64; break;
    case CPLXSXP: data = COMPLEX(numbers); own = TM_COMPLEX128; break;
    case RAWSXP: data = RAW(numbers); own = TM_UINT8; break;
    default: Rf_error("a tensor takes numbers"); /* checked in R */
  }
  status = tm_tensor_copy(data, own, sizes, dimensions, strides, &whole_value);
  if (status == TM_OK) status = tm_tensor_to_dtype(whole_value, Rf_asInteger(dtype), &value);
  tm_value_free(whole_value);
  RETURN(result, status);
}

static SEXP shape(SEXP pointer) {
  tm_tensor_info info;
  SEXP result;
  int32_t d;
  TRY(tm_tensor_get_info(value_of(pointer), &info));
  result = Rf_allocVector(REALSXP, info.dimensions);
  for (d = 0; d < info.dimensions; ++d) REAL(result)[d] = (double)info.shape[d];
  return result;
}

/* The elements in row-major order: complex numbers where they are that, else doubles. */
static SEXP elements(SEXP pointer) {
  const tm_value *value = value_of(pointer);
  tm_tensor_info info;
  tm_value *converted;
  tm_status status;
  SEXP result;
  int complex;
  TRY(tm_tensor_get_info(value, &info));
  complex = info.dtype == TM_COMPLEX32 || info.dtype == TM_COMPLEX64 || info.dtype == TM_COMPLEX128;
  result = PROTECT(Rf_allocVector(complex ? CPLXSXP : REALSXP, (R_xlen_t)info.elements));
  status = tm_tensor_to_dtype(value, complex ? TM_COMPLEX128 : TM_FLOAT64, &converted);
  if (status == TM_OK) {
    void *buffer = complex ? (void *)COMPLEX(result) : (void *)REAL(result);
    if (info.elements > 0) status = tm_tensor_read(converted, buffer, (size_t)info.elements * (complex ? 16 : 8));
    tm_value_free(converted);
  }
  UNPROTECT(1);
  return status == TM_OK ? result : failure(status, tm_last_error());
}

/* ---- The library ---- */

void R_init_torchmodel(DllInfo *library) {
#define ENTRY(function, count) {#function, (DL_FUNC)&function, count}
  static const R_CallMethodDef entries[] = {
      ENTRY(load, 2),   ENTRY(example_shape, 2), ENTRY(forward, 2), ENTRY(scalar, 1), ENTRY(whole, 1), ENTRY(list, 2),
      ENTRY(dict, 2),   ENTRY(kind, 1),          ENTRY(plain, 1),   ENTRY(each, 2),   ENTRY(tensor, 3), ENTRY(shape, 1),
      ENTRY(elements, 1), {NULL, NULL, 0}};
  R_registerRoutines(library, NULL, entries, NULL, NULL);
  R_useDynamicSymbols(library, FALSE);
}
