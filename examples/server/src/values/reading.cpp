#include "reading.h"

#include <ATen/EmptyTensor.h>
#include <ATen/Functions.h>
#include <ATen/core/function_schema.h>

#include <cmath>
#include <limits>
#include <optional>

#include "dtypes.h"
#include "image.h"

using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::element_type;
using simdjson::dom::object;

namespace {

constexpr int deepest = 64;                      // levels of containers
constexpr int64_t largest = int64_t(1) << 40;    // elements of a tensor
constexpr std::size_t most_dimensions = 64;
constexpr std::size_t kept_parser = 1u << 20;    // bytes of a document up to which its parser's memory is kept

// By value: what simdjson returns of a temporary does not outlive it.
array array_of(element json) { return array(json.get_array().value_unsafe()); }
object object_of(element json) { return object(json.get_object().value_unsafe()); }
element at(const array& all, std::size_t index) { return element(all.at(index).value_unsafe()); }

thread_local std::size_t document_bytes = 0;  // of the document that this thread reads

std::unique_ptr<simdjson::dom::parser>& parser() {
  thread_local std::unique_ptr<simdjson::dom::parser> kept;
  if (!kept) kept = std::make_unique<simdjson::dom::parser>();
  return kept;
}

std::string shortened(std::string_view text) { return std::string(text.substr(0, 40)) + (text.size() > 40 ? "…" : ""); }

std::optional<double> not_finite(std::string_view text) {
  if (text == "NaN" || text == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (text == "Infinity" || text == "inf") return std::numeric_limits<double>::infinity();
  if (text == "-Infinity" || text == "-inf") return -std::numeric_limits<double>::infinity();
  return std::nullopt;
}

std::string shown(element json) {
  if (json.is_array()) return "an array";
  if (json.is_object()) return "an object";
  return shortened(simdjson::minify(json));
}

// One number as another type; false where it is none, or does not fit.
bool convert(element json, double& out) {
  switch (json.type()) {
    case element_type::DOUBLE: out = json.get_double().value_unsafe(); return true;
    case element_type::INT64: out = static_cast<double>(json.get_int64().value_unsafe()); return true;
    case element_type::UINT64: out = static_cast<double>(json.get_uint64().value_unsafe()); return true;
    case element_type::STRING: {
      const auto special = not_finite(json.get_string().value_unsafe());
      if (special) out = *special;
      return special.has_value();
    }
    default: return false;
  }
}

bool convert(element json, float& out) {
  double wide = 0;
  if (!convert(json, wide)) return false;
  out = static_cast<float>(wide);
  return std::isfinite(out) == std::isfinite(wide);
}

bool convert(element json, bool& out) {
  if (json.type() == element_type::INT64) {
    const int64_t number = json.get_int64().value_unsafe();
    out = number != 0;
    return number == 0 || number == 1;
  }
  return json.get(out) == simdjson::SUCCESS;
}

template <typename Integer>
std::enable_if_t<std::is_integral_v<Integer> && !std::is_same_v<Integer, bool>, bool> convert(element json, Integer& out) {
  if (json.type() == element_type::INT64) {
    const int64_t number = json.get_int64().value_unsafe();
    out = static_cast<Integer>(number);
    return std::is_unsigned_v<Integer> ? number >= 0 && static_cast<uint64_t>(number) <= std::numeric_limits<Integer>::max()
                                       : number >= static_cast<int64_t>(std::numeric_limits<Integer>::min()) && number <= static_cast<int64_t>(std::numeric_limits<Integer>::max());
  }
  if (json.type() == element_type::UINT64) {  // beyond int64
    out = static_cast<Integer>(json.get_uint64().value_unsafe());
    return std::is_same_v<Integer, uint64_t>;
  }
  if (json.type() != element_type::DOUBLE) return false;
  const double number = json.get_double().value_unsafe();  // 3.0
  if (number != std::floor(number) || std::fabs(number) > 9007199254740992.0) return false;
  out = static_cast<Integer>(static_cast<int64_t>(number));
  return static_cast<double>(out) == number;
}

struct Complex {
  double re, im;
};

bool convert(element json, Complex& out) {
  if (!json.is_array()) {
    out.im = 0;
    return convert(json, out.re);
  }
  const array pair = array_of(json);
  return pair.size() == 2 && convert(at(pair, 0), out.re) && convert(at(pair, 1), out.im);
}

// Writes the elements in row-major order.
template <typename Number>
class Filler {
 public:
  Filler(Number* out, const std::vector<int64_t>& shape, const std::string& dtype, const Place& place)
      : begin_(out), out_(out), shape_(shape), dtype_(dtype), place_(place) {
    for (const int64_t size : shape) count_ *= size;
  }

  void fill(element json) {
    if (!json.is_array()) {
      if (!shape_.empty()) wrong(place_, "the elements must be a JSON array");
      one(json);
      return;
    }
    const array all = array_of(json);
    const bool complex = std::is_same_v<Number, Complex>;
    if (complex && shape_.empty() && all.size() == 2 && !at(all, 0).is_array()) return one(json);
    // Nested where an element is an array that is not itself a number.
    bool nested = false;
    if (all.size() > 0 && shape_.size() > (complex ? 1u : 0u)) {
      const element first = at(all, 0);
      nested = first.is_array() && (!complex || shape_.size() > 1) && !(complex && is_flat(all));
    }
    if (nested) {
      rows(all, 0);
    } else {
      flat(all);
    }
  }

 private:
  // Whether an array of pairs is as long as the whole tensor.
  bool is_flat(const array& all) const {
    const element first = at(all, 0);
    const array pair = array_of(first);
    return static_cast<int64_t>(all.size()) == count_ && pair.size() == 2 && !at(pair, 0).is_array();
  }

  void flat(const array& all) {
    int64_t given = 0;
    for (const element each : all) {
      if (given++ < count_) one(each);
    }
    if (given != count_) {
      wrong(place_, std::to_string(given) + (given == 1 ? " element" : " elements") + ", but the shape has " + std::to_string(count_));
    }
  }

  void rows(const array& all, std::size_t dimension) {
    int64_t given = 0;
    for (const element each : all) {
      if (++given > shape_[dimension]) break;
      if (dimension + 1 == shape_.size()) {
        one(each);
      } else if (each.is_array()) {
        rows(array_of(each), dimension + 1);
      } else {
        given = -1;
        break;
      }
    }
    if (given != shape_[dimension]) wrong(place_, "its arrays are not nested as the shape is");
  }

  void one(element json) {
    if (convert(json, *out_)) {
      ++out_;
      return;
    }
    const bool number = json.is_number();
    const Place here{&place_, nullptr, static_cast<std::size_t>(out_ - begin_)};
    wrong(shape_.empty() ? place_ : here, shown(json) + (number ? " does not fit " : " is not ") + dtype_);
  }

  Number* begin_;
  Number* out_;
  const std::vector<int64_t>& shape_;
  const std::string& dtype_;
  const Place& place_;
  int64_t count_ = 1;
};

template <typename Number>
at::Tensor filled(c10::ScalarType held, const std::vector<int64_t>& shape, element json, const std::string& dtype, const Place& place) {
  // No more memory than the text can fill: a shape alone reserves nothing.
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  if (count > 1 && static_cast<std::size_t>(count) > document_bytes) {
    wrong(place, "fewer elements than the " + std::to_string(count) + " of the shape");
  }
  at::Tensor out(at::detail::empty_cpu(shape, at::TensorOptions(held)));
  Filler<Number>(static_cast<Number*>(out.data_ptr()), shape, dtype, place).fill(json);
  return out;
}

}  // namespace

Json::Json(std::string& text, std::size_t size) {
  if (text.capacity() < text.size() + simdjson::SIMDJSON_PADDING) text.reserve(text.size() + simdjson::SIMDJSON_PADDING);
  document_bytes = size;
  const auto failed = parser()->parse(text.data(), size, /*realloc_if_needed=*/size < text.size()).get(root_);
  if (failed) throw RequestError(400, std::string("the body is not JSON: ") + simdjson::error_message(failed));
}

Json::~Json() {
  if (document_bytes > kept_parser) parser().reset();
}

std::string Place::text() const {
  if (above == nullptr) return name == nullptr ? "$" : name;
  return above->text() + (name != nullptr ? "." + shortened(name) : "[" + std::to_string(index) + "]");
}

void wrong(const Place& place, const std::string& fact) { throw RequestError(400, "at " + place.text() + ": " + fact); }

std::vector<int64_t> read_shape(element json, const Place& place) {
  if (!json.is_array()) wrong(place, "a shape must be an array of whole numbers");
  std::vector<int64_t> shape;
  int64_t count = 1;
  for (const element each : array_of(json)) {
    int64_t size = 0;
    if (!each.is<int64_t>() || each.get(size) != simdjson::SUCCESS) wrong(place, "a shape must be an array of whole numbers");
    if (size < 0) wrong(place, std::to_string(size) + " is a negative size");
    if (size > largest || (size > 0 && count > largest / size)) wrong(place, "a tensor of that shape is too large");
    count *= size > 0 ? size : 1;
    shape.push_back(size);
    if (shape.size() > most_dimensions) wrong(place, "a tensor cannot have so many dimensions");
  }
  return shape;
}

at::Tensor read_tensor(c10::ScalarType dtype, const std::vector<int64_t>& shape, element json, const Place& place) {
  using Type = c10::ScalarType;
  const std::string& name = dtype_name(dtype);
  switch (dtype) {
    case Type::Float: return filled<float>(dtype, shape, json, name, place);
    case Type::Double: return filled<double>(dtype, shape, json, name, place);
    case Type::Long: return filled<int64_t>(dtype, shape, json, name, place);
    case Type::Int: return filled<int32_t>(dtype, shape, json, name, place);
    case Type::Short: return filled<int16_t>(dtype, shape, json, name, place);
    case Type::Char: return filled<int8_t>(dtype, shape, json, name, place);
    case Type::Byte: return filled<uint8_t>(dtype, shape, json, name, place);
    case Type::Bool: return filled<bool>(dtype, shape, json, name, place);
    default: break;
  }
  // Not in every libtorch, so that they have no names here.
  if (name == "uint16") return filled<uint16_t>(dtype, shape, json, name, place);
  if (name == "uint32") return filled<uint32_t>(dtype, shape, json, name, place);
  if (name == "uint64") return filled<uint64_t>(dtype, shape, json, name, place);
  const bool complex = c10::isComplexType(dtype);
  const at::Tensor wide = complex ? filled<Complex>(Type::ComplexDouble, shape, json, name, place) : filled<double>(Type::Double, shape, json, name, place);
  const at::Tensor out = wide.to(dtype);
  const at::Tensor back = out.to(wide.scalar_type());
  if (!at::equal(at::isinf(back), at::isinf(wide))) wrong(place, "a number does not fit " + name);
  return out;
}

namespace {

c10::ScalarType read_dtype(object json, const Place& place) {
  std::string_view name;
  if (json["data_type"].get(name) != simdjson::SUCCESS) wrong(place, "no data_type");
  const c10::ScalarType dtype = dtype_named(name);
  if (dtype == c10::ScalarType::Undefined) wrong(place, "data_type '" + shortened(name) + "' is unknown: write one of torch's names, as float32");
  return dtype;
}

c10::IValue read_scalar(object json, element value, const Place& place) {
  const c10::ScalarType dtype = read_dtype(json, place);
  const Place inside{&place, "value", 0};
  const at::Tensor one = read_tensor(dtype, {}, value, inside);
  if (dtype == c10::ScalarType::Bool) return one.item<bool>();
  if (c10::isIntegralType(dtype, false)) return one.item<int64_t>();
  if (c10::isComplexType(dtype)) return one.to(c10::ScalarType::ComplexDouble).item<c10::complex<double>>();
  return one.to(c10::ScalarType::Double).item<double>();
}

c10::TypePtr type_of_items(const std::vector<c10::IValue>& items, const c10::TypePtr& wanted) {
  if (wanted) return wanted;
  if (items.empty()) return c10::TensorType::get();
  for (const c10::IValue& item : items) {
    if (item.tagKind() != items[0].tagKind()) return c10::AnyType::get();
  }
  return items[0].isTensor() ? c10::TypePtr(c10::TensorType::get()) : items[0].type();
}

c10::IValue list_of(const std::vector<c10::IValue>& items, const c10::TypePtr& element_wanted) {
  c10::impl::GenericList list(type_of_items(items, element_wanted));
  for (const c10::IValue& item : items) list.push_back(item);
  return list;
}

c10::IValue read_items(array all, bool tuple, const c10::TypePtr& wanted, const Place& place, int depth) {
  const auto list_type = wanted ? wanted->cast<c10::ListType>() : nullptr;
  const auto tuple_type = wanted ? wanted->cast<c10::TupleType>() : nullptr;
  std::vector<c10::IValue> items;
  std::size_t index = 0;
  for (const element each : all) {
    c10::TypePtr inner = list_type ? list_type->getElementType() : nullptr;
    if (tuple_type && index < tuple_type->elements().size()) inner = tuple_type->elements()[index];
    items.push_back(read_value(each, inner, Place{&place, nullptr, index}, depth + 1));
    ++index;
  }
  if (tuple_type && tuple_type->elements().size() != items.size()) {
    wrong(place, std::to_string(items.size()) + " values for a tuple of " + std::to_string(tuple_type->elements().size()));
  }
  if (tuple_type && tuple_type->schema()) return c10::ivalue::Tuple::createNamed(std::move(items), tuple_type);
  if (tuple_type || (tuple && !list_type)) return c10::ivalue::Tuple::create(std::move(items));
  return list_of(items, list_type ? list_type->getElementType() : nullptr);
}

c10::IValue read_dict(element value, const c10::TypePtr& wanted, const Place& place, int depth) {
  const auto type = wanted ? wanted->cast<c10::DictType>() : nullptr;
  const c10::TypePtr key_type = type ? type->getKeyType() : nullptr, value_type = type ? type->getValueType() : nullptr;
  std::vector<c10::IValue> keys, values;
  if (value.is_object()) {
    for (const auto field : object_of(value)) {
      const std::string key(field.key);
      keys.emplace_back(key);
      values.push_back(read_value(field.value, value_type, Place{&place, key.c_str(), 0}, depth + 1));
    }
  } else if (value.is_array()) {
    std::size_t index = 0;
    for (const element pair : array_of(value)) {
      const Place here{&place, nullptr, index++};
      if (!pair.is_array() || array_of(pair).size() != 2) wrong(here, "not a [key, value] pair");
      const array both = array_of(pair);
      keys.push_back(read_value(at(both, 0), key_type, Place{&here, nullptr, 0}, depth + 1));
      const c10::IValue& key = keys.back();
      if (!key.isString() && !key.isInt() && !key.isDouble() && !key.isBool()) wrong(here, "a key must be a string, a number or a bool");
      if (key.tagKind() != keys.front().tagKind()) wrong(here, "the keys of a dict must have one type");
      values.push_back(read_value(at(both, 1), value_type, Place{&here, nullptr, 1}, depth + 1));
    }
  } else {
    wrong(place, "a dict must be a JSON object, or an array of [key, value] pairs");
  }
  const c10::TypePtr keyed = key_type ? key_type : keys.empty() ? c10::TypePtr(c10::StringType::get()) : keys[0].type();
  c10::impl::GenericDict dict(keyed, type_of_items(values, value_type));
  for (std::size_t i = 0; i < keys.size(); ++i) dict.insert_or_assign(keys[i], values[i]);
  return dict;
}

c10::IValue read_image_value(std::string_view text, const Place& place) {
  try {
    const Image image = read_image(base64_decoded(text));
    const at::Tensor out = at::empty({image.height, image.width, 3}, at::TensorOptions(c10::ScalarType::Byte));
    std::copy(image.pixels.begin(), image.pixels.end(), out.data_ptr<uint8_t>());
    return out;
  } catch (const RequestError&) {
    throw;
  } catch (const std::exception& error) {
    wrong(place, error.what());
  }
}

c10::IValue read_typed(object json, const c10::TypePtr& wanted, const Place& place, int depth) {
  std::string_view kind;
  const char* const kinds = "write one of tensor, scalar, string, none, tuple, list, generic_dict, dict, image";
  if (json["type"].get(kind) != simdjson::SUCCESS) wrong(place, std::string("has no type: ") + kinds);
  if (kind == "none" || kind == "null") return {};
  const bool known = kind == "tensor" || kind == "scalar" || kind == "string" || kind == "str" || kind == "tuple" || kind == "list" ||
      kind == "generic_list" || kind == "generic_dict" || kind == "dict" || kind == "image";
  if (!known) wrong(place, "type '" + shortened(kind) + "' is unknown: " + kinds);
  element value;
  if (json["value"].get(value) != simdjson::SUCCESS) wrong(place, "a " + std::string(kind) + " without a value");
  const Place inside{&place, "value", 0};
  if (kind == "tensor") {
    const c10::ScalarType dtype = read_dtype(json, place);
    element sizes;
    const Place at_shape{&place, "shape", 0};
    if (json["shape"].get(sizes) != simdjson::SUCCESS) wrong(at_shape, "a shape must be an array of whole numbers");
    return read_tensor(dtype, read_shape(sizes, at_shape), value, inside);
  }
  if (kind == "scalar") {
    const c10::IValue number = read_scalar(json, value, place);
    const bool widened = wanted && wanted->kind() == c10::TypeKind::FloatType && number.isInt();
    return widened ? c10::IValue(static_cast<double>(number.toInt())) : number;
  }
  if (kind == "string" || kind == "str" || kind == "image") {
    std::string_view text;
    if (value.get(text) != simdjson::SUCCESS) wrong(inside, "a " + std::string(kind) + " must be a JSON string");
    return kind == "image" ? read_image_value(text, inside) : c10::IValue(std::string(text));
  }
  if (kind == "dict" || kind == "generic_dict") return read_dict(value, wanted, inside, depth);
  if (!value.is_array()) wrong(inside, "the parts of a " + std::string(kind) + " must be a JSON array");
  return read_items(array_of(value), kind == "tuple", wanted, inside, depth);
}

}  // namespace

c10::IValue read_value(element json, const c10::TypePtr& asked, const Place& place, int depth) {
  if (depth > deepest) throw RequestError(400, "a value is nested more than " + std::to_string(deepest) + " levels deep");
  c10::TypePtr wanted = asked;
  if (wanted && wanted->kind() == c10::TypeKind::AnyType) wanted = nullptr;
  if (wanted) {
    if (const auto optional = wanted->cast<c10::OptionalType>()) wanted = optional->getElementType();
  }
  switch (json.type()) {
    case element_type::ARRAY: return read_items(array_of(json), false, wanted, place, depth);
    case element_type::OBJECT: return read_typed(object_of(json), wanted, place, depth);
    case element_type::STRING: return c10::IValue(std::string(json.get_string().value_unsafe()));
    case element_type::BOOL: return json.get_bool().value_unsafe();
    case element_type::DOUBLE: return json.get_double().value_unsafe();
    case element_type::INT64: {
      const int64_t number = json.get_int64().value_unsafe();
      if (wanted && wanted->kind() == c10::TypeKind::FloatType) return static_cast<double>(number);
      return number;
    }
    case element_type::UINT64: wrong(place, shown(json) + " does not fit int64");
    default: return {};
  }
}

std::vector<c10::IValue> read_arguments(element json, const Signature& signature) {
  if (!json.is_array()) throw RequestError(400, "the body must be a JSON array of the arguments");
  const Place body;
  std::vector<c10::IValue> arguments;
  for (const element each : array_of(json)) {
    const std::size_t index = arguments.size();
    const c10::TypePtr wanted = index < signature.inputs.size() ? signature.inputs[index].type : nullptr;
    arguments.push_back(read_value(each, wanted, Place{&body, nullptr, index}));
  }
  return arguments;
}
