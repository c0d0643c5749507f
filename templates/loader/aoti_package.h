// What differs between the libtorchs that load AOTInductor packages (2.6 and newer). Templates: only what a libtorch has is
// compiled.
#pragma once

#include "api.h"

#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

// One model of a package, on device number `index` of the kind that it was compiled for; -1: the current one. The first
// libtorchs know no number, and the very first not `run_single_threaded` and `num_runners` either.
template <class Loader = torch::inductor::AOTIModelPackageLoader>
std::unique_ptr<Loader> packaged_model(const std::string& path, const std::string& name, int index) {
  using Text = const std::string&;
  if constexpr (std::is_constructible_v<Loader, Text, Text, bool, size_t, c10::DeviceIndex>) {
    return std::make_unique<Loader>(path, name, false, 1, static_cast<c10::DeviceIndex>(index));
  } else {
    if (index > 0) throw std::runtime_error("this libtorch loads packages on the current device only, not on number " + std::to_string(index));
    if constexpr (std::is_constructible_v<Loader, Text, Text, bool, size_t>) return std::make_unique<Loader>(path, name, false, 1);
    else if constexpr (std::is_constructible_v<Loader, Text, Text, bool>) return std::make_unique<Loader>(path, name, false);
    else return std::make_unique<Loader>(path, name);
  }
}

// The weights that a model has no values for; none where this libtorch cannot list the values.
template <class Runner>
auto weights_without_values(Runner& runner, int) -> decltype(runner.extract_constants_map(false), std::vector<std::string>()) {
  std::vector<std::string> names;
  const auto set = runner.extract_constants_map(/*use_inactive=*/false);
  for (const auto& pair : runner.getConstantNamesToOriginalFQNs()) {
    if (!pair.second.empty() && set.find(pair.second) == set.end()) names.push_back(pair.second);
  }
  return names;
}
template <class Runner>
std::vector<std::string> weights_without_values(Runner&, long) {
  return {};
}
