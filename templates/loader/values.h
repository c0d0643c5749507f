// IValues made and taken apart, and the text of types.
#pragma once

#include "api.h"

#include <string>
#include <utility>
#include <vector>

#if LOADER_API >= 105

inline bool is_list(const c10::IValue& value) {
  return value.isList();
}

inline c10::ArrayRef<c10::IValue> elements_of(const c10::IValue& list) {
  return list.toListRef();
}

inline c10::IValue list_of(const c10::TypePtr& element, const std::vector<c10::IValue>& items) {
  c10::impl::GenericList list(element);
  for (const c10::IValue& item : items) list.push_back(item);
  return list;
}

// `type` is null where none is declared.
inline c10::IValue tuple_of(const c10::TypePtr& type, std::vector<c10::IValue> items) {
  if (type) return c10::ivalue::Tuple::createNamed(std::move(items), type->expect<c10::TupleType>());
  return c10::ivalue::Tuple::create(std::move(items));
}

// Of a named tuple; none where it has no names.
inline std::vector<std::string> field_names(const c10::IValue& tuple) {
  std::vector<std::string> names;
  const auto type = tuple.type()->cast<c10::TupleType>();
  if (type && type->schema()) {
    for (const c10::Argument& field : type->schema()->arguments()) names.push_back(field.name());
  }
  return names;
}

#endif

#if LOADER_API >= 102

using Entries = std::vector<std::pair<c10::IValue, c10::IValue>>;

inline Entries entries_of(const c10::IValue& dict) {
  Entries entries;
  for (const auto& entry : dict.toGenericDict()) entries.emplace_back(entry.key(), entry.value());
  return entries;
}

inline c10::IValue dict_of(const c10::TypePtr& key, const c10::TypePtr& value, const Entries& entries) {
  c10::impl::GenericDict dict(key, value);
  for (const auto& entry : entries) dict.insert_or_assign(entry.first, entry.second);
  return dict;
}

#endif

#if LOADER_API >= 111

inline c10::TypePtr type_of(const c10::IValue& value) {
  return value.type();
}

inline std::string type_text(const c10::Type& type) {
  return type.annotation_str();
}

inline c10::TypePtr unknown_type() {
  return c10::AnyType::get();
}

inline std::string device_text(const c10::Device& device) {
  return device.str();
}

#else
#include "older_values.h"
#endif
