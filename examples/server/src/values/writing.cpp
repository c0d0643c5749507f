#include "writing.h"

#include <ATen/core/function_schema.h>

#include "../json.h"
#include "../servable.h"
#include "dtypes.h"

namespace {

constexpr int deepest_written = 200;

template <typename Number>
void append_all(std::string& out, const at::Tensor& tensor) {
  const Number* const begin = static_cast<const Number*>(tensor.data_ptr());
  const int64_t count = tensor.numel();
  for (int64_t i = 0; i < count; ++i) {
    if (i > 0) out += ',';
    append_json(out, begin[i]);
  }
}

void append_complex(std::string& out, const at::Tensor& tensor) {
  const bool single = tensor.scalar_type() != c10::ScalarType::ComplexDouble;
  const at::Tensor wide = tensor.to(c10::ScalarType::ComplexDouble).contiguous();
  const double* const begin = static_cast<const double*>(wide.data_ptr());
  for (int64_t i = 0; i < wide.numel(); ++i) {
    out += i > 0 ? ",[" : "[";
    for (int part = 0; part < 2; ++part) {
      if (part > 0) out += ',';
      const double number = begin[2 * i + part];
      if (single) {
        append_json(out, static_cast<float>(number));
      } else {
        append_json(out, number);
      }
    }
    out += ']';
  }
}

void append_typed(std::string& out, const char* type) {
  out += "{\"type\":\"";
  out += type;
  out += "\",\"value\":";
}

void append_tensor(std::string& out, const at::Tensor& tensor) {
  if (!tensor.defined()) {
    out += "{\"type\":\"none\"}";
    return;
  }
  const at::Tensor whole = plain(tensor);
  out += "{\"type\":\"tensor\",\"data_type\":\"";
  out += dtype_name(whole.scalar_type());
  out += "\",\"shape\":[";
  for (int64_t i = 0; i < whole.dim(); ++i) {
    if (i > 0) out += ',';
    append_json(out, whole.size(i));
  }
  out += "],\"value\":";
  append_elements(out, whole);
  out += '}';
}

void append_items(std::string& out, at::ArrayRef<c10::IValue> items, int depth) {
  out += '[';
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += ',';
    append_value(out, items[i], depth + 1);
  }
  out += ']';
}

void append_dict(std::string& out, const c10::IValue& value, int depth) {
  const auto dict = value.toGenericDict();
  bool named = true;
  for (const auto& entry : dict) named = named && entry.key().isString();
  append_typed(out, named ? "generic_dict" : "dict");
  out += named ? '{' : '[';
  bool first = true;
  for (const auto& entry : dict) {
    if (!first) out += ',';
    first = false;
    if (named) {
      append_json(out, std::string_view(entry.key().toStringRef()));
      out += ':';
      append_value(out, entry.value(), depth + 1);
    } else {
      out += '[';
      append_value(out, entry.key(), depth + 1);
      out += ',';
      append_value(out, entry.value(), depth + 1);
      out += ']';
    }
  }
  out += named ? "}}" : "]}";
}

template <typename Number>
void append_scalar(std::string& out, const char* dtype, Number number) {
  out += "{\"type\":\"scalar\",\"data_type\":\"";
  out += dtype;
  out += "\",\"value\":";
  append_json(out, number);
  out += '}';
}

}  // namespace

at::Tensor plain(const at::Tensor& tensor) {
  const bool already = tensor.is_contiguous() && tensor.device().is_cpu() && tensor.layout() == at::kStrided && !tensor.is_quantized() && !tensor.is_conj() && !tensor.is_neg();
  if (already) return tensor;
  at::Tensor out = tensor.is_quantized() ? tensor.dequantize() : tensor;
  if (out.layout() != at::kStrided) out = out.to_dense();
  return out.to(at::kCPU).resolve_conj().resolve_neg().contiguous();
}

void append_elements(std::string& out, const at::Tensor& tensor) {
  using Type = c10::ScalarType;
  const at::Tensor whole = plain(tensor);
  out += '[';
  switch (whole.scalar_type()) {
    case Type::Float: append_all<float>(out, whole); break;
    case Type::Double: append_all<double>(out, whole); break;
    case Type::Long: append_all<int64_t>(out, whole); break;
    case Type::Int: append_all<int32_t>(out, whole); break;
    case Type::Short: append_all<int16_t>(out, whole); break;
    case Type::Char: append_all<int8_t>(out, whole); break;
    case Type::Byte: append_all<uint8_t>(out, whole); break;
    case Type::Bool: {
      const bool* const begin = static_cast<const bool*>(whole.data_ptr());
      for (int64_t i = 0; i < whole.numel(); ++i) {
        out += i > 0 ? "," : "";
        out += begin[i] ? "true" : "false";
      }
      break;
    }
    default: {
      const std::string name = dtype_name(whole.scalar_type());
      if (c10::isComplexType(whole.scalar_type())) {
        append_complex(out, whole);
      } else if (name == "uint16") {
        append_all<uint16_t>(out, whole);
      } else if (name == "uint32") {
        append_all<uint32_t>(out, whole);
      } else if (name == "uint64") {
        append_all<uint64_t>(out, whole);
      } else {
        append_all<float>(out, whole.to(Type::Float));
      }
    }
  }
  out += ']';
}

void append_value(std::string& out, const c10::IValue& value, int depth) {
  if (depth > deepest_written) throw std::runtime_error("the answer is nested more than 200 levels deep");
  if (value.isTensor()) return append_tensor(out, value.toTensor());
  if (value.isNone()) {
    out += "{\"type\":\"none\"}";
  } else if (value.isInt()) {
    append_scalar(out, "int64", value.toInt());
  } else if (value.isDouble()) {
    append_scalar(out, "float64", value.toDouble());
  } else if (value.isBool()) {
    out += value.toBool() ? "{\"type\":\"scalar\",\"data_type\":\"bool\",\"value\":true}" : "{\"type\":\"scalar\",\"data_type\":\"bool\",\"value\":false}";
  } else if (value.isComplexDouble()) {
    const auto number = value.toComplexDouble();
    out += "{\"type\":\"scalar\",\"data_type\":\"complex128\",\"value\":[";
    append_json(out, number.real());
    out += ',';
    append_json(out, number.imag());
    out += "]}";
  } else if (value.isString()) {
    append_typed(out, "string");
    append_json(out, std::string_view(value.toStringRef()));
    out += '}';
  } else if (value.isTuple()) {
    append_typed(out, "tuple");
    const auto tuple = value.toTuple();
    append_items(out, std::vector<c10::IValue>(tuple->elements().begin(), tuple->elements().end()), depth);
    const auto type = tuple->type();
    if (type && type->schema()) {  // a named tuple
      out += ",\"names\":[";
      bool first = true;
      for (const c10::Argument& field : type->schema()->arguments()) {
        out += first ? "" : ",";
        first = false;
        append_json(out, std::string_view(field.name()));
      }
      out += ']';
    }
    out += '}';
  } else if (value.isList()) {
    append_items(out, value.toListRef(), depth);
  } else if (value.isGenericDict()) {
    append_dict(out, value, depth);
  } else {  // an object, a device
    append_typed(out, "other");
    append_json(out, std::string_view(value.type()->annotation_str()));
    out += '}';
  }
}
