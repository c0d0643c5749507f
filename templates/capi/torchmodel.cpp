// The functions of torchmodel.h: errors, values, tensors, and what they call of a model.
#include "internal.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/core/Dict.h>
#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>
#include <torch/cuda.h>
#if __has_include(<torch/headeronly/version.h>)
#include <torch/headeronly/version.h>
#else
#include <torch/csrc/api/include/torch/version.h>
#endif

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#include <unistd.h>

#include "package.h"
#include "script.h"

namespace {

thread_local std::string last_error;
thread_local bool inference_mode = true;

// How many bytes the UTF-8 character at the beginning has; 0: there is none.
size_t character(const unsigned char* text, size_t size) {
  const size_t length = text[0] < 0x80 ? 1 : text[0] < 0xc2 ? 0 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : text[0] < 0xf5 ? 4 : 0;
  if (length == 0 || length > size) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((text[i] & 0xc0) != 0x80) return 0;
  }
  const bool overlong = (text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xf0 && text[1] < 0x90);
  const bool none = (text[0] == 0xed && text[1] > 0x9f) || (text[0] == 0xf4 && text[1] > 0x8f);
  return overlong || none ? 0 : length;
}

tm_status failed(tm_status status, std::string message) noexcept {
  for (size_t at = 0; at < message.size();) { // names of files and devices may be anything
    const size_t length = character(reinterpret_cast<const unsigned char*>(message.data()) + at, message.size() - at);
    if (length == 0) message[at] = '?';
    at += length == 0 ? 1 : length;
  }
  try {
    last_error = std::move(message);
  } catch (...) {
  }
  return status;
}

// Run `body`; no exception leaves it.
template <typename Body>
tm_status guarded(Body body) noexcept {
  try {
    body();
    return TM_OK;
  } catch (const Failure& failure) {
    return failed(failure.status, failure.what());
  } catch (const std::bad_alloc&) {
    return failed(TM_ERROR_MEMORY, "out of memory");
  } catch (const std::length_error&) { // longer than a string or an array can be
    return failed(TM_ERROR_MEMORY, "out of memory");
  } catch (const c10::NotImplementedError& error) {
    return failed(TM_ERROR_UNSUPPORTED, plain(error));
  } catch (const c10::Error& error) {
    const bool memory = std::strstr(error.what_without_backtrace(), "DefaultCPUAllocator: ") != nullptr;
    return failed(memory ? TM_ERROR_MEMORY : TM_ERROR_MODEL, plain(error));
  } catch (const std::exception& error) {
    return failed(TM_ERROR_MODEL, plain(error));
  } catch (...) {
    return failed(TM_ERROR_MODEL, "an exception that is no std::exception");
  }
}

template <typename Pointer>
void need(Pointer* pointer, const char* name) {
  if (pointer == nullptr) throw Failure(TM_ERROR_ARGUMENT, std::string(name) + " is null");
}

// A tensor that libtorch would conjugate or negate when it is read (`x.conj()`) is written out, so that its data is what it says.
void give(c10::IValue value, tm_value** out, int depth = 0) {
  need(out, "the out parameter");
  if (value.isTensor() && value.toTensor().defined() && (value.toTensor().is_conj() || value.toTensor().is_neg())) {
    value = value.toTensor().resolve_conj().resolve_neg();
  }
  *out = new tm_value{std::move(value), depth};
}

Values values_of(const tm_value* const* items, size_t count) {
  if (count > 0) need(items, "the array of values");
  Values values;
  values.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    if (items[i] == nullptr) throw Failure(TM_ERROR_ARGUMENT, "value " + std::to_string(i) + " is null");
    values.push_back(items[i]->value);
  }
  return values;
}

// How deep a value of these items is. What is freed, converted and checked item by item takes the stack of a thread.
int depth_around(const tm_value* const* items, size_t count) {
  int depth = 1;
  for (size_t i = 0; i < count; ++i) depth = std::max(depth, items[i]->depth + 1);
  if (depth > 1000) throw Failure(TM_ERROR_ARGUMENT, "more than 1000 lists, tuples and dicts are in each other");
  return depth;
}

int depth_within(const tm_value* value) {
  return std::max(0, value->depth - 1);
}

tm_kind kind_of(const c10::IValue& value) {
  if (value.isTensor()) return value.toTensor().defined() ? TM_TENSOR : TM_NONE;
  if (value.isNone()) return TM_NONE;
  if (value.isBool()) return TM_BOOL;
  if (value.isInt()) return TM_INT;
  if (value.isDouble()) return TM_FLOAT;
  if (value.isComplexDouble()) return TM_COMPLEX;
  if (value.isString()) return TM_STRING;
  if (value.isList()) return TM_LIST;
  if (value.isTuple()) return TM_TUPLE;
  if (value.isGenericDict()) return TM_DICT;
  return TM_OTHER;
}

const char* kind_name(const c10::IValue& value) {
  static const char* const names[] = {"none", "a bool", "an int", "a float", "a complex number", "a string", "a tensor", "a list", "a tuple", "a dict", "an object"};
  return names[kind_of(value)];
}

[[noreturn]] void wrong_kind(const c10::IValue& value, const char* wanted) {
  throw Failure(TM_ERROR_TYPE, std::string("the value is ") + kind_name(value) + ", not " + wanted);
}

const at::Tensor& tensor_of(const tm_value* value) {
  need(value, "the value");
  if (kind_of(value->value) != TM_TENSOR) wrong_kind(value->value, "a tensor");
  return value->value.toTensor();
}

at::ScalarType scalar_type(tm_dtype dtype) {
  const auto type = static_cast<at::ScalarType>(dtype);
  const bool known = dtype >= 0 && dtype < static_cast<int32_t>(at::ScalarType::NumOptions) && type != at::ScalarType::Undefined;
  if (!known || c10::isQIntType(type) || c10::isBitsType(type)) throw Failure(TM_ERROR_ARGUMENT, "there is no dtype " + std::to_string(dtype));
  return type;
}

// A tensor's sizes and strides, checked: no negative size, and nothing outside of an address space.
struct Layout {
  std::vector<int64_t> shape, strides;

  Layout(const void* data, at::ScalarType dtype, const int64_t* sizes, int32_t dimensions, const int64_t* steps) {
    if (dimensions < 0 || dimensions > 64) throw Failure(TM_ERROR_ARGUMENT, std::to_string(dimensions) + " is not a number of dimensions");
    if (dimensions > 0) need(sizes, "the shape");
    shape.assign(sizes, sizes + dimensions);
    strides.resize(static_cast<size_t>(dimensions));
    const int64_t most = std::numeric_limits<int64_t>::max() / static_cast<int64_t>(c10::elementSize(dtype));
    int64_t elements = 1, next = 1, last = 0;
    for (size_t i = shape.size(); i-- > 0;) {
      if (shape[i] < 0) throw Failure(TM_ERROR_ARGUMENT, "dimension " + std::to_string(i) + " has the size " + std::to_string(shape[i]));
      if (shape[i] == 0) elements = 0;
      if (elements != 0 && __builtin_mul_overflow(elements, shape[i], &elements)) too_large();
      strides[i] = steps != nullptr ? steps[i] : next;
      if (strides[i] < 0) throw Failure(TM_ERROR_ARGUMENT, "the stride of dimension " + std::to_string(i) + " is negative");
      int64_t reach = 0;
      if (shape[i] > 0 && (__builtin_mul_overflow(shape[i] - 1, strides[i], &reach) || __builtin_add_overflow(last, reach, &last))) too_large();
      if (steps == nullptr && shape[i] > 0 && __builtin_mul_overflow(next, shape[i], &next)) too_large();
    }
    if (elements > most || last > most) too_large();
    if (elements > 0) need(data, "the data");
  }

 private:
  [[noreturn]] static void too_large() {
    throw Failure(TM_ERROR_ARGUMENT, "the shape has more elements than memory can hold");
  }
};

std::unique_ptr<tm_model> load(const std::string& path, const std::string& name, const char* device) {
  std::string start;
  const std::string tail = end_of_file(path, 4 << 20, start);
  const std::vector<std::string> entries = entries_of(path, tail.data(), tail.size());
  const std::vector<std::string> models = models_among(entries);
  if (!models.empty()) return load_package(path, models, name, device);
  refuse_other_kinds(path, start, entries);
  if (!name.empty()) throw Failure(TM_ERROR_ARGUMENT, path + ": not an AOTInductor package: it has no model named " + name);
  return load_script(path, device);
}

// A file that is deleted when this goes out of scope.
class TemporaryFile {
 public:
  TemporaryFile(const void* data, size_t size) {
    const char* const place = std::getenv("TMPDIR");
    path = std::string(place != nullptr && *place != '\0' ? place : "/tmp") + "/torchmodel-XXXXXX.pt2";
    const int descriptor = mkstemps(&path[0], 4);
    if (descriptor < 0) fail();
    const char* bytes = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t written = write(descriptor, bytes, size);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) {
        const int reason = errno;
        close(descriptor);
        unlink(path.c_str());
        errno = reason;
        fail();
      }
      bytes += written;
      size -= static_cast<size_t>(written);
    }
    close(descriptor);
  }
  ~TemporaryFile() {
    unlink(path.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  std::string path;

 private:
  [[noreturn]] void fail() const {
    throw Failure(TM_ERROR_FILE, path + ": " + std::strerror(errno));
  }
};

const Method::Argument& argument_at(const tm_model* model, const char* method, size_t index) {
  need(model, "the model");
  need(method, "the method");
  const Method& found = model->method(method);
  if (index >= found.arguments.size()) throw Failure(TM_ERROR_ARGUMENT, "the method " + found.name + " has no argument number " + std::to_string(index));
  return found.arguments[index];
}

void call(const tm_model* model, const char* method, const tm_value* const* arguments, size_t count, const Keywords& keywords, tm_value** result) {
  need(model, "the model");
  need(method, "the method");
  need(result, "the out parameter");
  const c10::InferenceMode guard(inference_mode);
  give(model->call(method, values_of(arguments, count), keywords), result);
}

} // namespace

extern "C" {

int32_t tm_version(void) {
  return TM_VERSION;
}

const char* tm_libtorch_version(void) {
  return TORCH_VERSION;
}

const char* tm_last_error(void) {
  return last_error.c_str();
}

tm_status tm_set_threads(int32_t count) {
  return guarded([&] {
    if (count < 1) throw Failure(TM_ERROR_ARGUMENT, std::to_string(count) + " is not a number of threads");
    at::set_num_threads(count);
  });
}

tm_status tm_get_threads(int32_t* count) {
  return guarded([&] {
    need(count, "the out parameter");
    *count = at::get_num_threads();
  });
}

tm_status tm_seed(uint64_t seed) {
  return guarded([&] { at::manual_seed(seed); });
}

tm_status tm_set_inference_mode(int32_t enabled) {
  return guarded([&] { inference_mode = enabled != 0; });
}

tm_status tm_device_count(int32_t* count) {
  return guarded([&] {
    need(count, "the out parameter");
    *count = 1 + static_cast<int32_t>(torch::cuda::device_count());
  });
}

tm_status tm_device_name(int32_t index, const char** name) {
  return guarded([&] {
    need(name, "the out parameter");
    const int32_t count = 1 + static_cast<int32_t>(torch::cuda::device_count());
    if (index < 0 || index >= count) throw Failure(TM_ERROR_ARGUMENT, "there is no device number " + std::to_string(index));
    static std::mutex mutex;
    static std::unordered_map<int32_t, std::string> names;
    const std::lock_guard<std::mutex> lock(mutex);
    *name = names.emplace(index, index == 0 ? "cpu" : "cuda:" + std::to_string(index - 1)).first->second.c_str();
  });
}

tm_status tm_model_load(const char* path, const char* device, tm_model** model) {
  return guarded([&] {
    need(path, "the path");
    need(model, "the out parameter");
    *model = load(path, "", device).release();
  });
}

tm_status tm_model_load_named(const char* path, const char* name, const char* device, tm_model** model) {
  return guarded([&] {
    need(path, "the path");
    need(name, "the name");
    need(model, "the out parameter");
    *model = load(path, name, device).release();
  });
}

tm_status tm_model_load_memory(const void* data, size_t size, const char* device, tm_model** model) {
  return guarded([&] {
    need(data, "the data");
    need(model, "the out parameter");
    const std::vector<std::string> entries = entries_of("the model in memory", static_cast<const char*>(data), size);
    if (!models_among(entries).empty()) {
      const TemporaryFile file(data, size);
      *model = load(file.path, "", device).release();
    } else {
      refuse_other_kinds("the model in memory", std::string(static_cast<const char*>(data), std::min<size_t>(size, 8)), entries);
      *model = load_script(data, size, device).release();
    }
  });
}

tm_status tm_model_free(tm_model* model) {
  return guarded([&] { delete model; });
}

tm_status tm_model_method_count(const tm_model* model, size_t* count) {
  return guarded([&] {
    need(model, "the model");
    need(count, "the out parameter");
    *count = model->methods.size();
  });
}

tm_status tm_model_method_name(const tm_model* model, size_t index, const char** name) {
  return guarded([&] {
    need(model, "the model");
    need(name, "the out parameter");
    if (index >= model->methods.size()) throw Failure(TM_ERROR_ARGUMENT, "the model has no method number " + std::to_string(index));
    *name = model->methods[index].name.c_str();
  });
}

tm_status tm_model_argument_count(const tm_model* model, const char* method, size_t* count) {
  return guarded([&] {
    need(model, "the model");
    need(method, "the method");
    need(count, "the out parameter");
    *count = model->method(method).arguments.size();
  });
}

tm_status tm_model_argument(const tm_model* model, const char* method, size_t index, tm_argument* argument) {
  return guarded([&] {
    const Method::Argument& found = argument_at(model, method, index);
    need(argument, "the out parameter");
    *argument = {found.name.c_str(), found.type.c_str(), found.default_text.c_str(), found.has_default, found.keyword_only};
  });
}

tm_status tm_model_argument_default(const tm_model* model, const char* method, size_t index, tm_value** value) {
  return guarded([&] {
    const Method::Argument& found = argument_at(model, method, index);
    if (!found.has_default) throw Failure(TM_ERROR_ARGUMENT, "the argument " + found.name + " has no default");
    give(found.fallback, value);
  });
}

tm_status tm_model_return_type(const tm_model* model, const char* method, const char** type) {
  return guarded([&] {
    need(model, "the model");
    need(method, "the method");
    need(type, "the out parameter");
    *type = model->method(method).returns.c_str();
  });
}

tm_status tm_model_example_shape(const tm_model* model, const char* method, size_t index, int64_t* shape, int32_t* dimensions) {
  return guarded([&] {
    const Method::Argument& argument = argument_at(model, method, index);
    need(shape, "the shape");
    need(dimensions, "the out parameter");
    const bool tensor = argument.type == "Tensor" || argument.type == "Optional[Tensor]" || argument.type == "Any";
    if (!tensor) throw Failure(TM_ERROR_TYPE, "the argument " + argument.name + " is of the type " + argument.type + ", not Tensor");
    const std::vector<int64_t> sizes = model->example_shape(index);
    if (sizes.size() > TM_MOST_DIMENSIONS) throw Failure(TM_ERROR_UNSUPPORTED, "the argument " + argument.name + " has too many dimensions");
    std::copy(sizes.begin(), sizes.end(), shape);
    *dimensions = static_cast<int32_t>(sizes.size());
  });
}

tm_status tm_model_forward(const tm_model* model, const tm_value* const* arguments, size_t count, tm_value** result) {
  return guarded([&] { call(model, "forward", arguments, count, {}, result); });
}

tm_status tm_model_call(const tm_model* model, const char* method, const tm_value* const* arguments, size_t count, const char* const* keywords, const tm_value* const* keyword_values, size_t keyword_count, tm_value** result) {
  return guarded([&] {
    Keywords named;
    const Values values = values_of(keyword_values, keyword_count);
    if (keyword_count > 0) need(keywords, "the array of keywords");
    for (size_t i = 0; i < keyword_count; ++i) {
      need(keywords[i], "a keyword");
      if (!named.emplace(keywords[i], values[i]).second) throw Failure(TM_ERROR_ARGUMENT, std::string("the argument ") + keywords[i] + " is given twice");
    }
    call(model, method, arguments, count, named, result);
  });
}

tm_status tm_value_none(tm_value** value) {
  return guarded([&] { give({}, value); });
}

tm_status tm_value_bool(int32_t boolean, tm_value** value) {
  return guarded([&] { give(boolean != 0, value); });
}

tm_status tm_value_int(int64_t number, tm_value** value) {
  return guarded([&] { give(number, value); });
}

tm_status tm_value_float(double number, tm_value** value) {
  return guarded([&] { give(number, value); });
}

tm_status tm_value_complex(double real, double imaginary, tm_value** value) {
  return guarded([&] { give(c10::complex<double>(real, imaginary), value); });
}

tm_status tm_value_string(const char* text, size_t size, tm_value** value) {
  return guarded([&] {
    if (size > 0) need(text, "the text");
    give(size > 0 ? std::string(text, size) : std::string(), value);
  });
}

tm_status tm_value_list(const tm_value* const* items, size_t count, tm_value** value) {
  return guarded([&] {
    c10::impl::GenericList list(c10::AnyType::get());
    for (c10::IValue& item : values_of(items, count)) list.push_back(std::move(item));
    give(std::move(list), value, depth_around(items, count));
  });
}

tm_status tm_value_tuple(const tm_value* const* items, size_t count, tm_value** value) {
  return guarded([&] {
    Values all = values_of(items, count);
    give(c10::ivalue::Tuple::create(std::move(all)), value, depth_around(items, count));
  });
}

tm_status tm_value_dict(tm_value** value) {
  return guarded([&] { give(c10::impl::GenericDict(c10::AnyType::get(), c10::AnyType::get()), value); });
}

tm_status tm_value_dict_set(tm_value* dict, const tm_value* key, const tm_value* item) {
  return guarded([&] {
    need(dict, "the dict");
    need(key, "the key");
    need(item, "the item");
    if (!dict->value.isGenericDict()) wrong_kind(dict->value, "a dict");
    const tm_kind kind = kind_of(key->value);
    if (kind < TM_BOOL || kind > TM_STRING) throw Failure(TM_ERROR_TYPE, std::string(kind_name(key->value)) + " cannot be a key of a dict");
    const int depth = depth_around(&item, 1);
    dict->value.toGenericDict().insert_or_assign(key->value, item->value);
    dict->depth = std::max(dict->depth, depth);
  });
}

tm_status tm_value_copy(const tm_value* value, tm_value** copy) {
  return guarded([&] {
    need(value, "the value");
    give(value->value, copy, value->depth);
  });
}

tm_status tm_value_free(tm_value* value) {
  return guarded([&] { delete value; });
}

tm_status tm_value_kind(const tm_value* value, tm_kind* kind) {
  return guarded([&] {
    need(value, "the value");
    need(kind, "the out parameter");
    *kind = kind_of(value->value);
  });
}

tm_status tm_value_get_bool(const tm_value* value, int32_t* boolean) {
  return guarded([&] {
    need(value, "the value");
    need(boolean, "the out parameter");
    if (!value->value.isBool()) wrong_kind(value->value, "a bool");
    *boolean = value->value.toBool() ? 1 : 0;
  });
}

tm_status tm_value_get_int(const tm_value* value, int64_t* number) {
  return guarded([&] {
    need(value, "the value");
    need(number, "the out parameter");
    if (!value->value.isInt()) wrong_kind(value->value, "an int");
    *number = value->value.toInt();
  });
}

tm_status tm_value_get_float(const tm_value* value, double* number) {
  return guarded([&] {
    need(value, "the value");
    need(number, "the out parameter");
    if (!value->value.isDouble()) wrong_kind(value->value, "a float");
    *number = value->value.toDouble();
  });
}

tm_status tm_value_get_complex(const tm_value* value, double* real, double* imaginary) {
  return guarded([&] {
    need(value, "the value");
    need(real, "the out parameter");
    need(imaginary, "the out parameter");
    if (!value->value.isComplexDouble()) wrong_kind(value->value, "a complex number");
    const c10::complex<double> number = value->value.toComplexDouble();
    *real = number.real();
    *imaginary = number.imag();
  });
}

tm_status tm_value_get_string(const tm_value* value, const char** text, size_t* size) {
  return guarded([&] {
    need(value, "the value");
    need(text, "the out parameter");
    if (!value->value.isString()) wrong_kind(value->value, "a string");
    const std::string& string = value->value.toStringRef();
    *text = string.c_str();
    if (size != nullptr) *size = string.size();
  });
}

tm_status tm_value_length(const tm_value* value, size_t* length) {
  return guarded([&] {
    need(value, "the value");
    need(length, "the out parameter");
    const c10::IValue& inner = value->value;
    if (inner.isList()) {
      *length = inner.toListRef().size();
    } else if (inner.isTuple()) {
      *length = inner.toTupleRef().elements().size();
    } else if (inner.isGenericDict()) {
      *length = inner.toGenericDict().size();
    } else {
      wrong_kind(inner, "a list, tuple or dict");
    }
  });
}

namespace {

c10::impl::GenericDict::iterator entry_at(const c10::impl::GenericDict& dict, size_t index) {
  if (index >= dict.size()) throw Failure(TM_ERROR_ARGUMENT, "the dict has no entry number " + std::to_string(index));
  auto entry = dict.begin();
  for (size_t i = 0; i < index; ++i) ++entry;
  return entry;
}

} // namespace

tm_status tm_value_item(const tm_value* value, size_t index, tm_value** item) {
  return guarded([&] {
    need(value, "the value");
    const c10::IValue& inner = value->value;
    if (inner.isGenericDict()) return give(entry_at(inner.toGenericDict(), index)->value(), item, depth_within(value));
    if (!inner.isList() && !inner.isTuple()) wrong_kind(inner, "a list, tuple or dict");
    const size_t length = inner.isList() ? inner.toListRef().size() : inner.toTupleRef().elements().size();
    if (index >= length) throw Failure(TM_ERROR_ARGUMENT, "there is no item number " + std::to_string(index));
    give(inner.isList() ? inner.toListRef()[index] : inner.toTupleRef().elements()[index], item, depth_within(value));
  });
}

tm_status tm_value_key(const tm_value* dict, size_t index, tm_value** key) {
  return guarded([&] {
    need(dict, "the dict");
    if (!dict->value.isGenericDict()) wrong_kind(dict->value, "a dict");
    give(entry_at(dict->value.toGenericDict(), index)->key(), key);
  });
}

tm_status tm_value_get(const tm_value* value, const char* key, tm_value** item) {
  return guarded([&] {
    need(value, "the value");
    need(key, "the key");
    const c10::IValue& inner = value->value;
    if (inner.isGenericDict()) {
      const auto dict = inner.toGenericDict();
      for (const auto& entry : dict) {
        if (entry.key().isString() && entry.key().toStringRef() == key) return give(entry.value(), item, depth_within(value));
      }
    } else if (inner.isTuple()) {
      const auto type = inner.type()->cast<c10::TupleType>();
      if (type && type->schema()) {
        const auto& fields = type->schema()->arguments();
        for (size_t i = 0; i < fields.size(); ++i) {
          if (fields[i].name() == key) return give(inner.toTupleRef().elements()[i], item, depth_within(value));
        }
      }
    } else {
      wrong_kind(inner, "a dict or a named tuple");
    }
    throw Failure(TM_ERROR_ARGUMENT, std::string("there is no item named ") + key);
  });
}

tm_status tm_dtype_size(tm_dtype dtype, size_t* size) {
  return guarded([&] {
    need(size, "the out parameter");
    *size = c10::elementSize(scalar_type(dtype));
  });
}

tm_status tm_tensor_copy(const void* data, tm_dtype dtype, const int64_t* shape, int32_t dimensions, const int64_t* strides, tm_value** value) {
  return guarded([&] {
    const at::ScalarType type = scalar_type(dtype);
    const Layout layout(data, type, shape, dimensions, strides);
    give(at::from_blob(const_cast<void*>(data), layout.shape, layout.strides, at::TensorOptions(type)).clone(at::MemoryFormat::Contiguous), value);
  });
}

tm_status tm_tensor_borrow(void* data, tm_dtype dtype, const int64_t* shape, int32_t dimensions, const int64_t* strides, void (*release)(void* context), void* context, tm_value** value) {
  return guarded([&] {
    need(value, "the out parameter");
    const at::ScalarType type = scalar_type(dtype);
    const Layout layout(data, type, shape, dimensions, strides);
    auto handle = std::make_unique<tm_value>();
    // Armed at the end: where this function fails, `release` is not called.
    const auto armed = std::make_shared<bool>(false);
    const auto released = [release, context, armed](void*) {
      if (*armed && release != nullptr) release(context);
    };
    handle->value = at::from_blob(data, layout.shape, layout.strides, released, at::TensorOptions(type));
    *armed = true;
    *value = handle.release();
  });
}

tm_status tm_tensor_get_info(const tm_value* value, tm_tensor_info* info) {
  return guarded([&] {
    const at::Tensor& tensor = tensor_of(value);
    need(info, "the out parameter");
    if (tensor.layout() != at::kStrided) throw Failure(TM_ERROR_UNSUPPORTED, "the tensor is sparse; take it with tm_tensor_to_cpu() first");
    const bool on_cpu = tensor.device().is_cpu();
    info->data = on_cpu ? tensor.data_ptr() : nullptr;
    info->shape = tensor.sizes().data();
    info->strides = tensor.strides().data();
    info->elements = tensor.numel();
    info->dimensions = static_cast<int32_t>(tensor.dim());
    info->dtype = static_cast<tm_dtype>(tensor.scalar_type());
    info->element_size = static_cast<int32_t>(tensor.element_size());
    info->is_contiguous = tensor.is_contiguous() ? 1 : 0;
    info->is_cpu = on_cpu ? 1 : 0;
  });
}

namespace {

// On the CPU, dense, in row-major order, without a pending conjugation or negation.
at::Tensor readable(const at::Tensor& tensor) {
  at::Tensor out = tensor.layout() == at::kStrided ? tensor : tensor.to_dense();
  if (out.is_quantized()) out = out.dequantize();
  return out.resolve_conj().resolve_neg().to(at::kCPU).contiguous();
}

} // namespace

tm_status tm_tensor_to_cpu(const tm_value* value, tm_value** result) {
  return guarded([&] { give(readable(tensor_of(value)), result); });
}

tm_status tm_tensor_to_device(const tm_value* value, const char* device, tm_value** result) {
  return guarded([&] { need(device, "the device");
    give(tensor_of(value).to(device_named(device)), result); });
}

tm_status tm_tensor_to_dtype(const tm_value* value, tm_dtype dtype, tm_value** result) {
  return guarded([&] { give(tensor_of(value).to(scalar_type(dtype)), result); });
}

tm_status tm_tensor_read(const tm_value* value, void* buffer, size_t size) {
  return guarded([&] {
    const at::Tensor tensor = readable(tensor_of(value));
    const size_t bytes = static_cast<size_t>(tensor.numel()) * tensor.element_size();
    if (bytes != size) throw Failure(TM_ERROR_ARGUMENT, "the tensor has " + std::to_string(bytes) + " bytes, and the buffer " + std::to_string(size));
    if (bytes > 0) {
      need(buffer, "the buffer");
      std::memcpy(buffer, tensor.data_ptr(), bytes);
    }
  });
}

} // extern "C"
