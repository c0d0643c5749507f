// TorchScript models; part of the translation unit of torchmodel.cpp, which shares most of its headers.
#pragma once

#include "internal.h"

#include <ATen/core/Dict.h>
#include <ATen/core/List.h>
#include <ATen/core/jit_type.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <istream>
#include <sstream>
#include <streambuf>

namespace {

// What is given, as the declared type wants it: the items of a list have one type in TorchScript, and a whole number
// may stand for a float, as in Python. Returns the value itself where it cannot help; libtorch says what is wrong.
c10::IValue fitted(const c10::IValue& value, const c10::TypePtr& type) {
  switch (type->kind()) {
    case c10::TypeKind::OptionalType:
      return value.isNone() ? value : fitted(value, type->expectRef<c10::OptionalType>().getElementType());
    case c10::TypeKind::UnionType: {
      for (const c10::TypePtr& each : type->expectRef<c10::UnionType>().containedTypes()) {
        c10::IValue candidate = fitted(value, each);
        if (candidate.type<c10::Type>()->isSubtypeOf(*each)) return candidate;
      }
      return value;
    }
    case c10::TypeKind::FloatType:
      return value.isInt() ? c10::IValue(static_cast<double>(value.toInt())) : value;
    case c10::TypeKind::ComplexType:
      if (value.isInt()) return c10::complex<double>(static_cast<double>(value.toInt()), 0);
      return value.isDouble() ? c10::IValue(c10::complex<double>(value.toDouble(), 0)) : value;
    case c10::TypeKind::DeviceObjType:
      return value.isString() ? c10::IValue(c10::Device(value.toStringRef())) : value;
    case c10::TypeKind::ListType: {
      if (!value.isList() && !value.isTuple()) return value;
      const c10::TypePtr& element = type->expectRef<c10::ListType>().getElementType();
      c10::impl::GenericList list(element);
      const c10::ArrayRef<c10::IValue> items = value.isList() ? value.toListRef() : c10::ArrayRef<c10::IValue>(value.toTupleRef().elements());
      list.reserve(items.size());
      for (const c10::IValue& item : items) list.push_back(fitted(item, element));
      return list;
    }
    case c10::TypeKind::TupleType: {
      if (!value.isList() && !value.isTuple()) return value;
      const auto& wanted = type->expectRef<c10::TupleType>().elements();
      const c10::ArrayRef<c10::IValue> items = value.isList() ? value.toListRef() : c10::ArrayRef<c10::IValue>(value.toTupleRef().elements());
      if (items.size() != wanted.size()) return value;
      Values fit;
      for (size_t i = 0; i < items.size(); ++i) fit.push_back(fitted(items[i], wanted[i]));
      return c10::ivalue::Tuple::createNamed(std::move(fit), type->expect<c10::TupleType>());
    }
    case c10::TypeKind::DictType: {
      if (!value.isGenericDict()) return value;
      const auto& wanted = type->expectRef<c10::DictType>();
      c10::impl::GenericDict dict(wanted.getKeyType(), wanted.getValueType());
      for (const auto& entry : value.toGenericDict()) dict.insert_or_assign(fitted(entry.key(), wanted.getKeyType()), fitted(entry.value(), wanted.getValueType()));
      return dict;
    }
    default:
      return value;
  }
}

std::string text_of(const c10::IValue& value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

// libtorch's message without its C++ backtrace.
std::string plain(const std::exception& error) {
  const auto* const own = dynamic_cast<const c10::Error*>(&error);
  const std::string message = own != nullptr ? own->what_without_backtrace() : error.what();
  return message.substr(0, message.find("\nException raised from "));
}

struct ScriptModel : tm_model {
  explicit ScriptModel(torch::jit::Module loaded) : module(std::move(loaded)) {
    module.eval();
    for (torch::jit::Function* const function : module._ivalue()->type()->methods()) {
      Method method;
      method.name = function->name();
      const c10::FunctionSchema& schema = function->getSchema();
      for (size_t i = 1; i < schema.arguments().size(); ++i) { // the first is the module
        const c10::Argument& declared = schema.arguments()[i];
        Method::Argument argument;
        argument.name = declared.name();
        argument.type = declared.type()->annotation_str();
        argument.keyword_only = declared.kwarg_only();
        if (declared.default_value()) {
          argument.has_default = true;
          argument.fallback = *declared.default_value();
          argument.default_text = text_of(argument.fallback);
        }
        method.arguments.push_back(std::move(argument));
      }
      method.returns = schema.returns().size() == 1 ? schema.returns()[0].type()->annotation_str() : "Any";
      methods.push_back(std::move(method));
    }
  }

  c10::IValue call(const std::string& name, Values arguments, const Keywords& keywords) const override {
    torch::jit::Function* const function = module._ivalue()->type()->findMethod(name);
    if (function == nullptr) method(name.c_str()); // throws, and lists the methods
    const auto& declared = function->getSchema().arguments();
    Values stack;
    stack.reserve(declared.size());
    stack.emplace_back(module._ivalue());
    for (size_t i = 0; i < arguments.size(); ++i) {
      stack.push_back(i + 1 < declared.size() ? fitted(arguments[i], declared[i + 1].type()) : std::move(arguments[i]));
    }
    Keywords named;
    for (const auto& keyword : keywords) {
      const c10::Argument* found = nullptr;
      for (const c10::Argument& each : declared) {
        if (each.name() == keyword.first) found = &each;
      }
      named.emplace(keyword.first, found != nullptr ? fitted(keyword.second, found->type()) : keyword.second);
    }
    try {
      function->getSchema().checkAndNormalizeInputs(stack, named);
    } catch (const c10::Error& error) {
      throw Failure(TM_ERROR_TYPE, error.what_without_backtrace());
    }
    function->run(stack);
    return stack.front();
  }

  // By the first weight: a convolution's is [out, in, …], a linear layer's [out, in].
  std::vector<int64_t> example_shape(size_t) const override {
    for (const at::Tensor& weight : module.parameters()) {
      if (weight.dim() == 5) return {1, weight.size(1), 16, 112, 112};
      if (weight.dim() == 4) return {1, weight.size(1), 224, 224};
      if (weight.dim() == 3) return {1, weight.size(1), 64};
      if (weight.dim() == 2) return {1, weight.size(1)};
    }
    return {1, 4};
  }

  torch::jit::Module module;
};

// Memory to read from, without a copy.
class Memory : public std::streambuf {
 public:
  Memory(const void* data, size_t size) {
    char* const begin = static_cast<char*>(const_cast<void*>(data));
    setg(begin, begin, begin + size);
  }

 protected:
  pos_type seekoff(off_type offset, std::ios_base::seekdir from, std::ios_base::openmode) override {
    const off_type base = from == std::ios_base::beg ? 0 : from == std::ios_base::cur ? gptr() - eback() : egptr() - eback();
    return seekpos(base + offset, std::ios_base::in);
  }
  pos_type seekpos(pos_type position, std::ios_base::openmode) override {
    if (position < pos_type(0) || position > pos_type(egptr() - eback())) return pos_type(off_type(-1));
    setg(eback(), eback() + static_cast<off_type>(position), egptr());
    return position;
  }
};

} // namespace

inline std::unique_ptr<tm_model> load_script(const std::string& path, const char* device) {
  const c10::Device where = device_named(device != nullptr ? device : "cpu");
  try {
    return std::make_unique<ScriptModel>(torch::jit::load(path, where));
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    throw Failure(TM_ERROR_FILE, path + ": " + plain(error));
  }
}

inline std::unique_ptr<tm_model> load_script(const void* data, size_t size, const char* device) {
  const c10::Device where = device_named(device != nullptr ? device : "cpu");
  Memory memory(data, size);
  std::istream stream(&memory);
  try {
    return std::make_unique<ScriptModel>(torch::jit::load(stream, where));
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    throw Failure(TM_ERROR_FILE, "the model in memory: " + plain(error));
  }
}
