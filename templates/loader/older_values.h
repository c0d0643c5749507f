// What values.h has of libtorch 1.1 to 1.10. Where a name came with some release between two of api.h's, the
// compiler takes the newer one if it is there.
#pragma once

#include "api.h"

#include <sstream>
#include <string>
#include <utility>
#include <vector>

template <class Value>
auto own_type(const Value& value, int) -> decltype(value.type()) {
  return value.type();
}
template <class Value>
c10::TypePtr own_type(const Value& value, long) {
  return incompleteInferTypeFrom(value); // to 1.3
}
inline c10::TypePtr type_of(const c10::IValue& value) {
  return own_type(value, 0);
}

template <class Type>
auto own_text(const Type& type, int) -> decltype(type.annotation_str()) {
  return type.annotation_str();
}
template <class Type>
std::string own_text(const Type& type, long) {
  return type.python_str(); // to 1.6
}
inline std::string type_text(const c10::Type& type) {
  return own_text(type, 0);
}

// Of the elements of a list that is empty and declared nowhere.
inline c10::TypePtr unknown_type() {
  return c10::TensorType::get();
}

inline std::string device_text(const c10::Device& device) {
  std::ostringstream text;
  text << device;
  return text.str();
}

#if LOADER_API < 105

#if LOADER_API == 102
template <class Item>
using List = c10::List<Item>;
#else
template <class Item>
using List = std::vector<Item>;
#endif

inline bool is_list(const c10::IValue& value) {
  return value.isIntList() || value.isDoubleList() || value.isBoolList() || value.isTensorList() || value.isGenericList();
}

template <class Item, class Items>
std::vector<c10::IValue> boxed(const Items& items) {
  std::vector<c10::IValue> values;
  for (const Item& item : items) values.emplace_back(item);
  return values;
}

inline std::vector<c10::IValue> elements_of(const c10::IValue& list) {
  if (list.isIntList()) return boxed<int64_t>(list.toIntListRef());
  if (list.isDoubleList()) return boxed<double>(list.toDoubleListRef());
  if (list.isTensorList()) return boxed<at::Tensor>(list.toTensorListRef());
#if LOADER_API == 102
  if (list.isBoolList()) return boxed<bool>(list.toBoolList());
#else
  if (list.isBoolList()) return boxed<bool>(list.toBoolListRef());
#endif
  return boxed<c10::IValue>(list.toGenericListRef());
}

template <class Item, class Unbox>
c10::IValue unboxed(const std::vector<c10::IValue>& items, const Unbox& unbox) {
  List<Item> list;
  for (const c10::IValue& item : items) list.push_back(unbox(item));
  return list;
}

inline c10::IValue list_of(const c10::TypePtr& element, const std::vector<c10::IValue>& items) {
  using c10::IValue;
  if (element->kind() == c10::TypeKind::IntType) return unboxed<int64_t>(items, [](const IValue& item) { return item.toInt(); });
  if (element->kind() == c10::TypeKind::FloatType) return unboxed<double>(items, [](const IValue& item) { return item.toDouble(); });
  if (element->kind() == c10::TypeKind::BoolType) return unboxed<bool>(items, [](const IValue& item) { return item.toBool(); });
  if (element->isSubtypeOf(c10::TensorType::get())) return unboxed<at::Tensor>(items, [](const IValue& item) { return item.toTensor(); });
#if LOADER_API == 102
  c10::impl::GenericList list(element);
  for (const IValue& item : items) list.push_back(item);
  return list;
#else
  return items;
#endif
}

// Without the names of a named tuple, which these releases hardly have.
inline c10::IValue tuple_of(const c10::TypePtr&, std::vector<c10::IValue> items) {
  return c10::ivalue::Tuple::create(std::move(items));
}

inline std::vector<std::string> field_names(const c10::IValue&) {
  return {};
}

#endif

#if LOADER_API == 101

using Entries = std::vector<std::pair<c10::IValue, c10::IValue>>;

inline Entries entries_of(const c10::IValue& dict) {
  return Entries(dict.toGenericDictRef().begin(), dict.toGenericDictRef().end());
}

inline c10::IValue dict_of(const c10::TypePtr&, const c10::TypePtr&, const Entries& entries) {
  c10::ivalue::UnorderedMap dict;
  for (const auto& entry : entries) dict[entry.first] = entry.second;
  return dict;
}

#endif
