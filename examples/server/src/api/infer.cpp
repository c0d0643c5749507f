// POST /v2/models/NAME/infer, with tensors as JSON or behind it as raw bytes (the binary tensor extension).
#include <ATen/Functions.h>
#include <c10/core/InferenceMode.h>

#include <cstring>

#include "../json.h"
#include "../values/dtypes.h"
#include "../values/reading.h"
#include "../values/writing.h"
#include "api.h"

using simdjson::dom::element;

namespace {

struct Wanted {
  std::string name;
  bool binary = false;
};

// What the answer is to look like.
struct Asked {
  std::string model, id;
  bool has_id = false;
  bool binary = false;  // of all outputs
  std::vector<Wanted> outputs;
};

std::string text_of(element json, const char* key, const Place& place) {
  std::string_view text;
  if (json[key].get(text) != simdjson::SUCCESS) wrong(place, std::string("no ") + key);
  return std::string(text);
}

// `parameters.NAME`
template <typename Value>
bool parameter(element json, const char* name, Value& out) {
  element parameters;
  return json["parameters"].get(parameters) == simdjson::SUCCESS && parameters.is_object() && parameters[name].get(out) == simdjson::SUCCESS;
}

// The raw bytes behind the JSON, handed out in order.
class Raw {
 public:
  explicit Raw(std::string_view bytes) : bytes_(bytes) {}
  std::string_view take(std::int64_t size, const Place& place) {
    if (size < 0 || static_cast<std::uint64_t>(size) > bytes_.size()) wrong(place, "binary_data_size is more than the body holds");
    const std::string_view taken = bytes_.substr(0, static_cast<std::size_t>(size));
    bytes_.remove_prefix(taken.size());
    return taken;
  }
  bool empty() const { return bytes_.empty(); }

 private:
  std::string_view bytes_;
};

int64_t count_of(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

// Strings: each with its length, four bytes, before it.
std::vector<std::string> raw_strings(std::string_view bytes, const Place& place) {
  std::vector<std::string> out;
  while (!bytes.empty()) {
    std::uint32_t length = 0;
    if (bytes.size() < sizeof length) wrong(place, "a string is cut off");
    std::memcpy(&length, bytes.data(), sizeof length);
    bytes.remove_prefix(sizeof length);
    if (length > bytes.size()) wrong(place, "a string is cut off");
    out.emplace_back(bytes.substr(0, length));
    bytes.remove_prefix(length);
  }
  return out;
}

void append_strings(std::vector<std::string>& out, element json, const Place& place) {
  if (json.is_array()) {
    const simdjson::dom::array all = json.get_array();
    for (const element each : all) append_strings(out, each, place);
    return;
  }
  std::string_view text;
  if (json.get(text) != simdjson::SUCCESS) wrong(place, "BYTES must be JSON strings");
  out.emplace_back(text);
}

c10::IValue string_input(element json, const std::vector<int64_t>& shape, Raw& raw, const c10::TypePtr& type, const Place& place) {
  std::int64_t size = 0;
  std::vector<std::string> all;
  element data;
  if (parameter(json, "binary_data_size", size)) {
    all = raw_strings(raw.take(size, place), place);
  } else if (json["data"].get(data) == simdjson::SUCCESS) {
    append_strings(all, data, place);
  } else {
    wrong(place, "no data");
  }
  if (static_cast<int64_t>(all.size()) != count_of(shape)) wrong(place, std::to_string(all.size()) + " strings, but the shape has " + std::to_string(count_of(shape)));
  if (type && type->kind() == c10::TypeKind::StringType) {
    if (all.size() != 1) wrong(place, "the model takes one string");
    return all[0];
  }
  c10::List<std::string> list;
  for (std::string& each : all) list.push_back(std::move(each));
  return list;
}

// A tensor as what the model takes: a number where that is a number.
c10::IValue as_argument(const at::Tensor& tensor, const c10::TypePtr& asked, const Place& place) {
  c10::TypePtr type = asked;
  if (type) {
    if (const auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
  }
  const auto kind = type ? type->kind() : c10::TypeKind::TensorType;
  const bool number = kind == c10::TypeKind::IntType || kind == c10::TypeKind::FloatType || kind == c10::TypeKind::BoolType;
  if (!number) return tensor;
  if (tensor.numel() != 1) wrong(place, "the model takes one number");
  if (kind == c10::TypeKind::IntType) return tensor.item<int64_t>();
  if (kind == c10::TypeKind::FloatType) return tensor.item<double>();
  return tensor.item<bool>();
}

c10::IValue read_input(element json, Raw& raw, const c10::TypePtr& type, const Place& place) {
  const std::string datatype = text_of(json, "datatype", place);
  element sizes;
  const Place at_shape{&place, "shape", 0};
  if (json["shape"].get(sizes) != simdjson::SUCCESS) wrong(at_shape, "a shape must be an array of whole numbers");
  const std::vector<int64_t> shape = read_shape(sizes, at_shape);
  if (datatype == "BYTES") return string_input(json, shape, raw, type, place);
  const c10::ScalarType dtype = dtype_named(torch_name(datatype));
  if (dtype == c10::ScalarType::Undefined) wrong(place, "datatype '" + datatype.substr(0, 40) + "' is unknown");
  std::int64_t size = 0;
  if (parameter(json, "binary_data_size", size)) {
    const std::string_view bytes = raw.take(size, place);
    const std::uint64_t needed = static_cast<std::uint64_t>(count_of(shape)) * c10::elementSize(dtype);
    if (bytes.size() != needed) wrong(place, std::to_string(bytes.size()) + " bytes, but the shape has " + std::to_string(needed));
    const at::Tensor tensor = at::empty(shape, at::TensorOptions(dtype));
    if (!bytes.empty()) std::memcpy(tensor.data_ptr(), bytes.data(), bytes.size());
    return as_argument(tensor, type, place);
  }
  element data;
  if (json["data"].get(data) != simdjson::SUCCESS) wrong(place, "no data");
  return as_argument(read_tensor(dtype, shape, data, Place{&place, "data", 0}), type, place);
}

std::vector<c10::IValue> read_inputs(element root, Raw& raw, const Signature& signature) {
  element all;
  const Place body, inputs{&body, "inputs", 0};
  if (root["inputs"].get(all) != simdjson::SUCCESS || !all.is_array()) throw RequestError(400, "the body has no inputs");
  const std::vector<Port>& ports = signature.inputs;
  std::vector<c10::IValue> given(ports.size());
  std::vector<bool> seen(ports.size(), false);
  std::size_t index = 0, count = 0;
  const simdjson::dom::array each_input = all.get_array();
  for (const element each : each_input) {
    const Place place{&inputs, nullptr, index++};
    if (!each.is_object()) wrong(place, "an input must be a JSON object");
    const std::string name = text_of(each, "name", place);
    std::size_t port = 0;
    while (port < ports.size() && ports[port].name != name) ++port;
    if (port == ports.size()) wrong(place, "the model has no input '" + name.substr(0, 40) + "'");
    if (seen[port]) wrong(place, "input '" + name.substr(0, 40) + "' is given twice");
    seen[port] = true;
    given[port] = read_input(each, raw, ports[port].type, place);
    count = std::max(count, port + 1);
  }
  if (!raw.empty()) throw RequestError(400, "bytes are left over behind the last input");
  for (std::size_t i = 0; i < ports.size(); ++i) {
    if (!seen[i] && (ports[i].required || i < count)) throw RequestError(400, "input '" + ports[i].name + "' is missing");
  }
  given.resize(count);
  return given;
}

Asked read_asked(element root, const std::string& model) {
  Asked asked;
  asked.model = model;
  std::string_view id;
  element field;
  if (root["id"].get(field) == simdjson::SUCCESS) {
    if (field.get(id) != simdjson::SUCCESS) throw RequestError(400, "the id must be a string");
    asked.has_id = true;
    asked.id = id;
  }
  parameter(root, "binary_data_output", asked.binary);
  if (root["outputs"].get(field) == simdjson::SUCCESS) {
    if (!field.is_array()) throw RequestError(400, "outputs must be an array");
    const Place body, outputs{&body, "outputs", 0};
    std::size_t index = 0;
    const simdjson::dom::array all = field.get_array();
    for (const element each : all) {
      const Place place{&outputs, nullptr, index++};
      if (!each.is_object()) wrong(place, "an output must be a JSON object");
      Wanted wanted;
      wanted.name = text_of(each, "name", place);
      wanted.binary = asked.binary;
      parameter(each, "binary_data", wanted.binary);
      std::int64_t classes = 0;
      if (parameter(each, "classification", classes)) wrong(place, "classification is not supported");
      asked.outputs.push_back(std::move(wanted));
    }
  }
  return asked;
}

// What a model returns, in order: tensors, and numbers and strings as tensors of one element.
void flatten(const c10::IValue& value, std::vector<c10::IValue>& out) {
  if (value.isTuple()) {
    const auto tuple = value.toTuple();
    for (const c10::IValue& each : tuple->elements()) flatten(each, out);
  } else if (value.isList()) {
    for (const c10::IValue& each : value.toListRef()) flatten(each, out);
  } else if (value.isGenericDict()) {
    for (const auto& entry : value.toGenericDict()) flatten(entry.value(), out);
  } else if (value.isTensor()) {
    out.emplace_back(plain(value.toTensor()));
  } else if (value.isInt()) {
    out.emplace_back(at::full({1}, value.toInt(), at::TensorOptions(c10::ScalarType::Long)));
  } else if (value.isDouble()) {
    out.emplace_back(at::full({1}, value.toDouble(), at::TensorOptions(c10::ScalarType::Double)));
  } else if (value.isBool()) {
    out.emplace_back(at::full({1}, value.toBool(), at::TensorOptions(c10::ScalarType::Bool)));
  } else if (value.isString()) {
    out.push_back(value);
  } else if (!value.isNone()) {
    throw RequestError(400, "the model returns what the protocol cannot carry");
  }
}

void append_output(std::string& json, std::string& raw, const std::string& name, const c10::IValue& value, bool binary) {
  json += "{\"name\":";
  append_json(json, std::string_view(name));
  json += ",\"datatype\":\"";
  std::string bytes;
  if (value.isString()) {
    json += "BYTES\",\"shape\":[1]";
    const std::string& text = value.toStringRef();
    const auto length = static_cast<std::uint32_t>(text.size());
    bytes.assign(reinterpret_cast<const char*>(&length), sizeof length);
    bytes += text;
  } else {
    at::Tensor tensor = value.toTensor();
    std::string datatype = protocol_name(dtype_name(tensor.scalar_type()));
    if (datatype.empty()) {
      if (tensor.is_complex()) throw RequestError(400, "the protocol has no complex numbers");
      tensor = tensor.to(c10::ScalarType::Float);
      datatype = "FP32";
    }
    json += datatype + "\",\"shape\":[";
    for (int64_t i = 0; i < tensor.dim(); ++i) {
      if (i > 0) json += ',';
      append_json(json, tensor.size(i));
    }
    json += ']';
    if (!binary) {
      json += ",\"data\":";
      append_elements(json, tensor);
      json += '}';
      return;
    }
    bytes.assign(static_cast<const char*>(tensor.data_ptr()), tensor.nbytes());
  }
  if (!binary) {
    json += ",\"data\":[";
    append_json(json, std::string_view(value.toStringRef()));
    json += "]}";
    return;
  }
  json += ",\"parameters\":{\"binary_data_size\":" + std::to_string(bytes.size()) + "}}";
  raw += bytes;
}

Response written(const Asked& asked, const c10::IValue& result) {
  std::vector<c10::IValue> values;
  flatten(result, values);
  std::vector<Wanted> wanted = asked.outputs;
  for (std::size_t i = 0; asked.outputs.empty() && i < values.size(); ++i) wanted.push_back({"output" + std::to_string(i), asked.binary});
  std::string json = "{\"model_name\":", raw;
  append_json(json, std::string_view(asked.model));
  json += ",\"model_version\":\"1\"";
  if (asked.has_id) {
    json += ",\"id\":";
    append_json(json, std::string_view(asked.id));
  }
  json += ",\"outputs\":[";
  bool first = true, binary = false;
  for (const Wanted& each : wanted) {
    std::size_t index = 0;
    while (index < values.size() && "output" + std::to_string(index) != each.name) ++index;
    if (index == values.size()) throw RequestError(400, "the model has no output '" + each.name.substr(0, 40) + "'");
    if (!first) json += ',';
    first = false;
    binary = binary || each.binary;
    append_output(json, raw, each.name, values[index], each.binary);
  }
  json += "]}";
  Response response;
  if (binary) {
    response.content_type = "application/octet-stream";
    response.headers.emplace_back("Inference-Header-Content-Length", std::to_string(json.size()));
  }
  response.body = std::move(json);
  response.body += raw;
  return response;
}

std::size_t json_length(std::string_view header, std::size_t body) {
  if (header.empty()) return body;
  std::size_t length = 0;
  for (const char digit : header) {
    if (digit < '0' || digit > '9' || header.size() > 18) throw RequestError(400, "Inference-Header-Content-Length is not a number");
    length = length * 10 + static_cast<std::size_t>(digit - '0');
  }
  if (length > body) throw RequestError(400, "Inference-Header-Content-Length is more than the body");
  return length;
}

}  // namespace

void Api::infer(const std::string& name, const Request& request, const Reply& reply) {
  const std::size_t length = json_length(request.inference_header_length, request.body->size());
  with_model(catalog_.file_of(name), std::move(*request.body), reply, [this, name, length](const std::shared_ptr<Model>& model, std::string& body, const Reply& answer) {
    std::vector<c10::IValue> arguments;
    Asked asked;
    {
      const c10::InferenceMode guard;
      const Json json(body, length);
      if (!json.root().is_object()) throw RequestError(400, "the body must be a JSON object");
      Raw raw(std::string_view(body).substr(length));
      arguments = read_inputs(json.root(), raw, model->servable->signature());
      asked = read_asked(json.root(), name);
    }
    const std::size_t size = body.size();
    call(model, std::move(arguments), size, answer, [asked](const c10::IValue& result) { return written(asked, result); });
  });
}
