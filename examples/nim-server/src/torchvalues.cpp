// The C++ side of torchvalues.nim: TorchScript models, and values of every kind, with a C interface.
//
// The only file that includes libtorch's headers. No exception leaves these functions: those that can fail return null, or
// the error's text, which the caller passes to torch_free_text. Only C types are exchanged, so libtorch's C++ ABI does not
// matter to Nim.

#include <charconv>
#include <cmath>
#include <complex>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/grad_mode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

namespace torchvalues {

enum Kind { none, boolean, integer, floating, complex_number, text, tensor, list, tuple, dict };  // as in torchvalues.nim

// A value before it has one of TorchScript's types, or of which the type no longer matters. The items of a dict are its
// keys and values in turn.
struct Value {
  Kind kind = none;
  c10::IValue leaf;
  std::vector<std::unique_ptr<Value>> items;
};

struct Model {
  torch::jit::Module module;
};

namespace {

struct Dtype {
  const char* name;   // torch's
  const char* spelt;  // libtorch's
  char carrier;       // how Nim passes the elements: 'i' as int64, 'f' as double, 'c' as two doubles
};

const Dtype dtypes[] = {
    {"float32", "Float", 'f'},     {"float64", "Double", 'f'},          {"float16", "Half", 'f'},
    {"bfloat16", "BFloat16", 'f'}, {"int64", "Long", 'i'},              {"int32", "Int", 'i'},
    {"int16", "Short", 'i'},       {"int8", "Char", 'i'},               {"uint8", "Byte", 'i'},
    {"uint16", "UInt16", 'i'},     {"uint32", "UInt32", 'i'},           {"uint64", "UInt64", 'i'},
    {"bool", "Bool", 'i'},         {"complex64", "ComplexFloat", 'c'},  {"complex128", "ComplexDouble", 'c'},
    {"complex32", "ComplexHalf", 'c'},
    {"float8_e4m3fn", "Float8_e4m3fn", 'f'}, {"float8_e5m2", "Float8_e5m2", 'f'},
};

// By libtorch's own names, so that a libtorch without a dtype does without it.
c10::ScalarType scalar_type(const Dtype& dtype) {
  for (int code = 0; code < static_cast<int>(c10::ScalarType::NumOptions); ++code) {
    const auto type = static_cast<c10::ScalarType>(code);
    if (std::strcmp(c10::toString(type), dtype.spelt) == 0) return type;
  }
  return c10::ScalarType::Undefined;
}

const Dtype* dtype_of(const at::Tensor& elements) {
  for (const Dtype& dtype : dtypes)
    if (std::strcmp(c10::toString(elements.scalar_type()), dtype.spelt) == 0) return &dtype;
  return nullptr;
}

c10::ScalarType carrier_type(char carrier) {
  return carrier == 'i' ? c10::ScalarType::Long : carrier == 'f' ? c10::ScalarType::Double : c10::ScalarType::ComplexDouble;
}

// Of an exception that passed through TorchScript's interpreter the last line: the rest is where it happened.
std::string sentence(const std::string& whole) {
  std::string kept = whole.substr(0, whole.find_last_not_of(" \n") + 1);
  if (kept.find("Traceback of TorchScript") != std::string::npos) {
    for (const char* mark : {"\nRuntimeError: ", "\nbuiltins."}) {
      const std::size_t at = kept.rfind(mark);
      if (at != std::string::npos) return sentence(kept.substr(at + std::strlen(mark)));
    }
    kept.erase(0, kept.rfind('\n') + 1);
  }
  kept.erase(0, kept.find_first_not_of(" \n"));
  return kept.empty() ? "an error without a message" : kept.substr(0, kept.find('\n'));
}

template <class Action>
char* text_of_failure(Action action) {
  try {
    action();
    return nullptr;
  } catch (const c10::Error& error) {
    return strdup(sentence(error.what_without_backtrace()).c_str());
  } catch (const std::exception& error) {
    return strdup(sentence(error.what()).c_str());
  } catch (...) {
    return strdup("an exception of an unknown C++ type");
  }
}

// --- into TorchScript's types ---

[[noreturn]] void mismatch(const std::string& place, const std::string& wanted) {
  throw std::runtime_error("at " + place + ": must be " + wanted);
}

c10::IValue typed(const Value& value, const c10::TypePtr& type, const std::string& place);

// Where no type is declared: that of all items if they have one.
c10::TypePtr common_type(const std::vector<c10::IValue>& items) {
  if (items.empty()) return c10::TensorType::get();
  for (const c10::IValue& item : items)
    if (item.tagKind() != items[0].tagKind()) return c10::AnyType::get();
  return items[0].isTensor() ? c10::TypePtr(c10::TensorType::get()) : items[0].type();
}

std::string item_place(const std::string& place, std::size_t index) { return place + "[" + std::to_string(index) + "]"; }

c10::IValue typed_list(const Value& value, const c10::TypePtr& element, const std::string& place) {
  std::vector<c10::IValue> items;
  for (std::size_t i = 0; i < value.items.size(); ++i) items.push_back(typed(*value.items[i], element, item_place(place, i)));
  c10::impl::GenericList made(element ? element : common_type(items));
  for (const c10::IValue& item : items) made.push_back(item);
  return made;
}

c10::IValue typed_tuple(const Value& value, const c10::TupleTypePtr& type, const std::string& place) {
  if (type && type->elements().size() != value.items.size())
    mismatch(place, "a tuple of " + std::to_string(type->elements().size()) + " values, not of " + std::to_string(value.items.size()));
  std::vector<c10::IValue> items;
  for (std::size_t i = 0; i < value.items.size(); ++i)
    items.push_back(typed(*value.items[i], type ? type->elements()[i] : nullptr, item_place(place, i)));
  if (type && type->schema()) return c10::ivalue::Tuple::createNamed(std::move(items), type);
  return c10::ivalue::Tuple::create(std::move(items));
}

c10::IValue typed_dict(const Value& value, const c10::DictTypePtr& type, const std::string& place) {
  std::vector<c10::IValue> keys, values;
  for (std::size_t i = 0; i + 1 < value.items.size(); i += 2) {
    const std::string where = item_place(place, i / 2);
    keys.push_back(typed(*value.items[i], type ? type->getKeyType() : nullptr, where));
    values.push_back(typed(*value.items[i + 1], type ? type->getValueType() : nullptr, where));
    if (keys.back().tagKind() != keys.front().tagKind()) mismatch(where, "a key of the same type as the others");
  }
  const bool known = type || !keys.empty();
  c10::impl::GenericDict made(type ? type->getKeyType() : known ? common_type(keys) : c10::TypePtr(c10::StringType::get()),
                              type ? type->getValueType() : common_type(values));
  for (std::size_t i = 0; i < keys.size(); ++i) made.insert_or_assign(keys[i], values[i]);
  return made;
}

c10::IValue typed(const Value& value, const c10::TypePtr& type, const std::string& place) {
  const c10::TypeKind wanted = type ? type->kind() : c10::TypeKind::AnyType;
  if (wanted == c10::TypeKind::OptionalType) {
    if (value.kind == none) return {};
    return typed(value, type->expect<c10::OptionalType>()->getElementType(), place);
  }
  const bool sequence = value.kind == list || value.kind == tuple;
  switch (wanted) {
    case c10::TypeKind::ListType:
      if (sequence) return typed_list(value, type->expect<c10::ListType>()->getElementType(), place);
      break;
    case c10::TypeKind::TupleType:
      if (sequence) return typed_tuple(value, type->expect<c10::TupleType>(), place);
      break;
    case c10::TypeKind::DictType:
      if (value.kind == dict) return typed_dict(value, type->expect<c10::DictType>(), place);
      break;
    case c10::TypeKind::TensorType:
      if (value.kind == tensor) return value.leaf;
      break;
    case c10::TypeKind::FloatType:
      if (value.kind == floating) return value.leaf;
      if (value.kind == integer) return static_cast<double>(value.leaf.toInt());
      break;
    case c10::TypeKind::IntType:
      if (value.kind == integer) return value.leaf;
      break;
    case c10::TypeKind::BoolType:
      if (value.kind == boolean) return value.leaf;
      break;
    case c10::TypeKind::StringType:
      if (value.kind == text) return value.leaf;
      break;
    case c10::TypeKind::ComplexType:
      if (value.kind == complex_number) return value.leaf;
      if (value.kind == floating) return c10::complex<double>(value.leaf.toDouble(), 0);
      if (value.kind == integer) return c10::complex<double>(static_cast<double>(value.leaf.toInt()), 0);
      break;
    case c10::TypeKind::NoneType:
      if (value.kind == none) return {};
      break;
    case c10::TypeKind::NumberType:
      if (value.kind >= boolean && value.kind <= complex_number) return value.leaf;
      break;
    case c10::TypeKind::DeviceObjType:
      if (value.kind == text) return c10::Device(value.leaf.toStringRef());
      break;
    default:  // Any, a union: as it comes; libtorch checks it
      if (value.kind == list) return typed_list(value, nullptr, place);
      if (value.kind == tuple) return typed_tuple(value, nullptr, place);
      if (value.kind == dict) return typed_dict(value, nullptr, place);
      return value.leaf;
  }
  mismatch(place, type->annotation_str());
}

// --- and back ---

std::unique_ptr<Value> untyped(const c10::IValue& value, int depth = 0) {
  if (depth > 200) throw std::runtime_error("the model returns a value that is nested more than 200 levels deep");
  auto out = std::make_unique<Value>();
  out->leaf = value;
  if (value.isNone()) return out;
  if (value.isTensor()) {
    at::Tensor elements = value.toTensor();
    if (!elements.defined()) return out;
    if (elements.is_quantized()) elements = elements.dequantize();
    if (elements.layout() != at::kStrided) elements = elements.to_dense();
    out->leaf = elements.to(at::Device(at::kCPU)).resolve_conj().resolve_neg().contiguous();
    out->kind = tensor;
  } else if (value.isBool()) {
    out->kind = boolean;
  } else if (value.isInt()) {
    out->kind = integer;
  } else if (value.isDouble()) {
    out->kind = floating;
  } else if (value.isComplexDouble()) {
    out->kind = complex_number;
  } else if (value.isString()) {
    out->kind = text;
  } else if (value.isTuple()) {
    out->kind = tuple;
    for (const c10::IValue& item : value.toTuple()->elements()) out->items.push_back(untyped(item, depth + 1));
  } else if (value.isList()) {
    out->kind = list;
    for (const c10::IValue& item : value.toListRef()) out->items.push_back(untyped(item, depth + 1));
  } else if (value.isGenericDict()) {
    out->kind = dict;
    for (const auto& entry : value.toGenericDict()) {
      out->items.push_back(untyped(entry.key(), depth + 1));
      out->items.push_back(untyped(entry.value(), depth + 1));
    }
  } else {
    throw std::runtime_error("the model returns a " + value.tagKind() + ", which JSON cannot express");
  }
  return out;
}

// The double that is printed with the digits of the float: 0.1 and not 0.10000000149011612.
double with_digits_of_float(double number) {
#if defined(__cpp_lib_to_chars)
  if (!std::isfinite(number)) return number;
  char digits[64];
  const auto end = std::to_chars(digits, digits + sizeof digits, static_cast<float>(number)).ptr;
  std::from_chars(digits, end, number);
#endif
  return number;
}

Value* made(Kind kind, c10::IValue leaf) {
  auto out = std::make_unique<Value>();
  out->kind = kind;
  out->leaf = std::move(leaf);
  return out.release();
}

}  // namespace

extern "C" {

void torch_free_text(char* message) { free(message); }

// --- values ---

Value* torch_none() { return made(none, {}); }
Value* torch_bool(int value) { return made(boolean, value != 0); }
Value* torch_int(int64_t value) { return made(integer, value); }
Value* torch_float(double value) { return made(floating, value); }
Value* torch_complex(double re, double im) { return made(complex_number, c10::complex<double>(re, im)); }
Value* torch_text(const char* begin, int64_t size) { return made(text, std::string(begin, static_cast<std::size_t>(size))); }

// 1 for int64, 2 for double, 3 for two doubles; 0 for a dtype that this libtorch does not have.
int torch_carrier(const char* name) {
  for (const Dtype& dtype : dtypes)
    if (std::strcmp(name, dtype.name) == 0 && scalar_type(dtype) != c10::ScalarType::Undefined)
      return dtype.carrier == 'i' ? 1 : dtype.carrier == 'f' ? 2 : 3;
  return 0;
}

// The elements are copied; a number that the dtype cannot hold is an error. uint64 is passed by its bits.
char* torch_tensor(const char* name, const void* elements, int64_t rank, const int64_t* sizes, Value** out) {
  return text_of_failure([&] {
    const torch::autograd::AutoGradMode no_gradients(false);
    for (const Dtype& dtype : dtypes) {
      if (std::strcmp(name, dtype.name) != 0) continue;
      const c10::ScalarType type = scalar_type(dtype);
      const bool bits = std::strcmp(name, "uint64") == 0;
      // Not from_blob: Nim's memory is not aligned as libtorch's complex numbers must be.
      const at::Tensor given = at::empty({sizes, static_cast<std::size_t>(rank)}, at::TensorOptions().dtype(bits ? type : carrier_type(dtype.carrier)));
      if (given.numel() > 0) std::memcpy(given.data_ptr(), elements, given.nbytes());
      at::Tensor copy = given.to(type);
      if (dtype.carrier != 'i') {
        const at::Tensor back = copy.to(given.scalar_type());
        if (!back.isinf().equal(given.isinf()) || !back.isnan().equal(given.isnan()))
          throw std::runtime_error(std::string("a number does not fit ") + name);
      }
      *out = made(tensor, std::move(copy));
      return;
    }
    throw std::runtime_error(std::string("no dtype ") + name);
  });
}

// Takes the items over; those of a dict are its keys and values in turn.
Value* torch_container(int kind, Value** items, int64_t count) {
  auto out = std::make_unique<Value>();
  out->kind = static_cast<Kind>(kind);
  for (int64_t i = 0; i < count; ++i) out->items.emplace_back(items[i]);
  return out.release();
}

void torch_free(Value* value) { delete value; }

int torch_kind(const Value* value) { return value->kind; }
int64_t torch_count(const Value* value) { return static_cast<int64_t>(value->items.size()); }
const Value* torch_item(const Value* value, int64_t index) { return value->items[static_cast<std::size_t>(index)].get(); }
int torch_get_bool(const Value* value) { return value->leaf.toBool(); }
int64_t torch_get_int(const Value* value) { return value->leaf.toInt(); }
double torch_get_float(const Value* value) { return value->leaf.toDouble(); }
void torch_get_complex(const Value* value, double* parts) {
  const c10::complex<double> number = value->leaf.toComplexDouble();
  parts[0] = number.real(), parts[1] = number.imag();
}
const char* torch_get_text(const Value* value, int64_t* size) {
  const std::string& held = value->leaf.toStringRef();
  *size = static_cast<int64_t>(held.size());
  return held.data();
}
const char* torch_dtype(const Value* value) {
  const Dtype* dtype = dtype_of(value->leaf.toTensor());
  return dtype ? dtype->name : "";
}
int64_t torch_rank(const Value* value) { return value->leaf.toTensor().dim(); }
int64_t torch_size(const Value* value, int64_t dimension) { return value->leaf.toTensor().size(dimension); }

// Copies the elements to `memory`, as the carrier of the dtype; uint64 by its bits.
char* torch_elements(const Value* value, void* memory) {
  return text_of_failure([&] {
    const torch::autograd::AutoGradMode no_gradients(false);
    const at::Tensor& held = value->leaf.toTensor();
    const Dtype* dtype = dtype_of(held);
    if (!dtype) throw std::runtime_error(std::string("JSON cannot express a tensor of ") + c10::toString(held.scalar_type()));
    const bool bits = std::strcmp(dtype->name, "uint64") == 0;
    const c10::ScalarType type = bits ? held.scalar_type() : carrier_type(dtype->carrier);
    const at::Tensor copy = held.to(type).contiguous();
    if (copy.numel() > 0) std::memcpy(memory, copy.data_ptr(), copy.nbytes());
    if (dtype->carrier == 'i' || held.scalar_type() == c10::ScalarType::Double || held.scalar_type() == c10::ScalarType::ComplexDouble) return;
    double* const numbers = static_cast<double*>(memory);
    for (int64_t i = 0; i < held.numel() * (dtype->carrier == 'c' ? 2 : 1); ++i) numbers[i] = with_digits_of_float(numbers[i]);
  });
}

// --- models ---

char* torch_load(const char* path, Model** model) {
  return text_of_failure([&] {
    torch::jit::Module module = torch::jit::load(std::string(path), c10::Device(c10::kCPU));
    module.eval();
    if (!module.find_method("forward")) throw std::runtime_error("it has no method forward");
    *model = new Model{std::move(module)};
  });
}

void torch_free_model(Model* model) { delete model; }

// Calls forward; what its declaration does not allow is an error that names the argument.
char* torch_forward(Model* model, Value** arguments, int64_t count, Value** out) {
  return text_of_failure([&] {
    const torch::autograd::AutoGradMode no_gradients(false);
    const std::vector<c10::Argument> declared = model->module.get_method("forward").function().getSchema().arguments();
    if (count > static_cast<int64_t>(declared.size()) - 1)  // without self
      throw std::runtime_error("forward takes " + std::to_string(declared.size() - 1) + " arguments, and " + std::to_string(count) + " are given");
    std::vector<c10::IValue> given;
    for (int64_t i = 0; i < count; ++i)
      given.push_back(typed(*arguments[i], declared[static_cast<std::size_t>(i) + 1].type(), "$[" + std::to_string(i) + "]"));
    *out = untyped(model->module.forward(std::move(given))).release();
  });
}

}  // extern "C"
}  // namespace torchvalues
