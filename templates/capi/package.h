// AOTInductor packages (.pt2); part of the translation unit of torchmodel.cpp, as libtorch's headers take most of the time.
#pragma once

#include "internal.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <sys/stat.h>

#if __has_include(<torch/csrc/inductor/aoti_package/model_package_loader.h>)

#include <iostream>
#include <sstream>

#include "aoti_inputs.h"
#include "aoti_package.h"
#include "aoti_spec.h"

namespace {

std::mutex errors_mutex; // of std::cerr, while its text is kept

// A package throws inside its library; libtorch throws again without the sentence, which the library has printed on
// std::cerr. What has failed is run once more to read it, by one thread at a time.
std::string reason(torch::inductor::AOTIModelContainerRunner& runner, std::vector<at::Tensor> tensors, const std::string& otherwise) {
  const std::lock_guard<std::mutex> lock(errors_mutex);
  std::ostringstream kept;
  std::streambuf* const before = std::cerr.rdbuf(kept.rdbuf());
  try {
    runner.run(tensors);
  } catch (...) {
  }
  std::cerr.rdbuf(before);
  const std::string text = kept.str();
  const size_t at = text.find("Error: ");
  if (at == std::string::npos) return otherwise;
  const std::string sentence = text.substr(at + 7);
  return sentence.substr(0, sentence.find('\n'));
}

// The shape that a package asks of an input, found out by calling it with tensors that it rejects.
std::vector<int64_t> asked_shape(torch::inductor::AOTIModelContainerRunner& runner, size_t inputs, size_t index) {
  const std::lock_guard<std::mutex> lock(errors_mutex);
  const JsonValue all = JsonValue::read(inputs_of(runner, c10::Device(c10::DeviceType::CPU), inputs));
  std::vector<int64_t> sizes;
  const JsonValue* const shape = index < all.items.size() ? all.items[index].find("shape") : nullptr;
  if (shape == nullptr) throw Failure(TM_ERROR_ARGUMENT, "the package has no input number " + std::to_string(index));
  for (const JsonValue& size : shape->items) sizes.push_back(std::atoll(size.text.c_str()));
  return sizes;
}

struct PackagedModel : tm_model {
  PackagedModel(const std::string& path, const std::string& name, c10::DeviceIndex device)
      : package(packaged_model(path, name, device)), runner(package->get_runner()) {
    const std::vector<std::string> spec = runner->get_call_spec();
    if (spec.size() == 2 && !spec[0].empty() && !spec[1].empty()) {
      taken = Spec::read(spec[0]);
      given = Spec::read(spec[1]);
      has_spec = taken.parts.size() == 2;
    }
    for (const std::string& weight : weights_without_values(*runner, 0)) { // it would read them from nowhere
      throw Failure(TM_ERROR_UNSUPPORTED, path + ": its weights are not in its library: " + weight + " is missing; compile it with package_constants_in_so");
    }
    Method forward;
    forward.name = "forward";
    forward.returns = "Any";
    if (has_spec) {
      for (size_t i = 0; i < taken.parts[0].parts.size(); ++i) add(forward, "argument " + std::to_string(i + 1), false);
      for (const c10::IValue& key : taken.parts[1].keys) add(forward, key.toStringRef(), true);
    }
    methods.push_back(std::move(forward));
  }

  std::vector<int64_t> example_shape(size_t index) const override {
    const size_t inputs = has_spec ? taken.leaves() : index + 1;
    return asked_shape(*runner, inputs, index < inputs ? index : 0);
  }

  c10::IValue call(const std::string& name, Values arguments, const Keywords& keywords) const override {
    const Method& forward = method(name.c_str());
    std::vector<at::Tensor> tensors;
    try {
      tensors = flat(forward, std::move(arguments), keywords);
    } catch (const Failure&) {
      throw;
    } catch (const std::exception& error) { // a structure other than that of the export
      throw Failure(TM_ERROR_TYPE, error.what());
    }
    std::vector<at::Tensor> results;
    try {
      std::vector<at::Tensor> inputs = tensors;
      results = runner->run(inputs);
    } catch (const std::exception& error) {
      const std::string text = reason(*runner, tensors, error.what());
      const bool count = text.find("inputs vector size to be") != std::string::npos;
      throw Failure(count ? TM_ERROR_TYPE : TM_ERROR_MODEL, text);
    }
    if (has_spec && given.leaves() == results.size()) {
      size_t at = 0;
      return given.unflatten(results, at);
    }
    Values all;
    for (const at::Tensor& result : results) all.push_back(result.defined() ? c10::IValue(result) : c10::IValue());
    return all.size() == 1 ? all.front() : c10::IValue(c10::ivalue::Tuple::create(std::move(all)));
  }

 private:
  static void add(Method& method, const std::string& name, bool keyword_only) {
    Method::Argument argument;
    argument.name = name;
    argument.type = "Any";
    argument.keyword_only = keyword_only;
    method.arguments.push_back(std::move(argument));
  }

  std::vector<at::Tensor> flat(const Method& forward, Values arguments, const Keywords& keywords) const {
    std::vector<at::Tensor> tensors;
    if (!has_spec) {
      if (!keywords.empty()) throw Failure(TM_ERROR_ARGUMENT, "the package takes no keyword arguments");
      for (size_t i = 0; i < arguments.size(); ++i) Spec().flatten(arguments[i], "argument " + std::to_string(i + 1), tensors);
      return tensors;
    }
    const auto& declared = forward.arguments;
    size_t taken_keywords = 0;
    for (size_t i = arguments.size(); i < declared.size() && declared[i].keyword_only; ++i, ++taken_keywords) {
      const auto found = keywords.find(declared[i].name);
      if (found == keywords.end()) throw Failure(TM_ERROR_TYPE, "the argument " + declared[i].name + " is missing");
      arguments.push_back(found->second);
    }
    if (taken_keywords != keywords.size()) throw Failure(TM_ERROR_TYPE, "the package has no such keyword argument, or it is given twice");
    if (arguments.size() != declared.size()) {
      throw Failure(TM_ERROR_TYPE, "the package takes " + std::to_string(declared.size()) + " arguments, and " + std::to_string(arguments.size()) + " were given");
    }
    const size_t positions = taken.parts[0].parts.size();
    for (size_t i = 0; i < arguments.size(); ++i) {
      const Spec& spec = i < positions ? taken.parts[0].parts[i] : taken.parts[1].parts[i - positions];
      spec.flatten(arguments[i], declared[i].name, tensors);
    }
    return tensors;
  }

  std::unique_ptr<torch::inductor::AOTIModelPackageLoader> package;
  torch::inductor::AOTIModelContainerRunner* runner;
  bool has_spec = false;
  Spec taken, given;
};

} // namespace

std::unique_ptr<tm_model> load_package(const std::string& path, const std::vector<std::string>& models, const std::string& name, const char* device) {
  std::string chosen = name, all;
  bool known = false;
  for (const std::string& each : models) {
    all += (all.empty() ? "" : ", ") + each;
    known = known || each == name;
    if (name.empty() && (each == "model" || models.size() == 1)) chosen = each;
  }
  if (chosen.empty()) throw Failure(TM_ERROR_ARGUMENT, path + ": the package has several models; name one of: " + all);
  if (!name.empty() && !known) throw Failure(TM_ERROR_ARGUMENT, path + ": the package has no model named " + name + "; it has " + all);
  c10::DeviceIndex index = -1;
  if (device != nullptr) index = device_named(device).index();
  // Without it a package reads whatever memory follows a tensor of a wrong shape.
  static std::once_flag once;
  std::call_once(once, [] { setenv("AOTI_RUNTIME_CHECK_INPUTS", "1", /*overwrite=*/0); });
  try {
    return std::make_unique<PackagedModel>(path, chosen, index);
  } catch (const Failure&) {
    throw;
  } catch (const std::exception& error) {
    const std::string text = error.what();
    throw Failure(TM_ERROR_FILE, path + ": " + text.substr(0, text.find("\nException raised from ")));
  }
}

#else

std::unique_ptr<tm_model> load_package(const std::string& path, const std::vector<std::string>&, const std::string&, const char*) {
  throw Failure(TM_ERROR_UNSUPPORTED, path + ": this libtorch loads no AOTInductor packages: they need 2.6 or newer");
}

#endif

std::string end_of_file(const std::string& path, size_t most, std::string& start) {
  struct stat status;
  if (stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) { // a pipe has no end
    throw Failure(TM_ERROR_FILE, path + ": not a regular file");
  }
  std::FILE* const file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) throw Failure(TM_ERROR_FILE, path + ": " + std::strerror(errno));
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> closing(file, std::fclose);
  const auto unreadable = [&path] { throw Failure(TM_ERROR_FILE, path + ": " + std::strerror(errno)); };
  start.assign(8, '\0');
  start.resize(std::fread(&start[0], 1, start.size(), file));
  if (start.empty()) {
    if (std::ferror(file)) unreadable();
    throw Failure(TM_ERROR_FILE, path + ": not a model: the file is empty");
  }
  if (std::fseek(file, 0, SEEK_END) != 0) unreadable();
  const long size = std::ftell(file);
  if (size < 0) unreadable();
  const size_t length = std::min(static_cast<size_t>(size), most);
  if (std::fseek(file, size - static_cast<long>(length), SEEK_SET) != 0) unreadable();
  std::string tail(length, '\0');
  tail.resize(std::fread(&tail[0], 1, tail.size(), file));
  return tail;
}

std::vector<std::string> entries_of(const std::string& path, const char* data, size_t size) {
  static const char entry[] = "PK\001\002";
  const size_t header = 46; // bytes of a central directory entry before its name (APPNOTE 4.3.12)
  std::vector<std::string> names;
  for (size_t at = 0; at + header <= size;) {
    const void* const found = memmem(data + at, size - at, entry, 4);
    if (found == nullptr) break;
    at = static_cast<size_t>(static_cast<const char*>(found) - data);
    if (at + header > size) break;
    const size_t length = static_cast<unsigned char>(data[at + 28]) | static_cast<size_t>(static_cast<unsigned char>(data[at + 29])) << 8;
    if (length <= size - at - header) names.emplace_back(data + at + header, length);
    at += 4;
  }
  if (!names.empty() && memmem(data, size, "PK\005\006", 4) == nullptr) throw Failure(TM_ERROR_FILE, path + ": a damaged archive: it ends too early");
  return names;
}

// Of a package they begin with `NAME/data/aotinductor/MODEL/`.
std::vector<std::string> models_among(const std::vector<std::string>& entries) {
  static const std::string place = "data/aotinductor/";
  std::vector<std::string> names;
  for (const std::string& name : entries) {
    const size_t found = name.find(place);
    if (found == std::string::npos || (found != 0 && name[found - 1] != '/')) continue;
    const size_t begin = found + place.size(), end = name.find('/', begin);
    if (end == std::string::npos || end == begin) continue;
    const std::string model = name.substr(begin, end - begin);
    if (std::find(names.begin(), names.end(), model) == names.end()) names.push_back(model);
  }
  return names;
}

void refuse_other_kinds(const std::string& path, const std::string& start, const std::vector<std::string>& entries) {
  if (start.size() == 8 && start.compare(4, 4, "PTMF") == 0) return; // TorchScript as a FlatBuffer
  const auto has = [&entries](const std::string& ending) {
    return std::any_of(entries.begin(), entries.end(), [&ending](const std::string& name) {
      return name.size() >= ending.size() && name.compare(name.size() - ending.size(), ending.size(), ending) == 0;
    });
  };
  const bool exported = has("/models/model.json");
  if (!exported && (has("/constants.pkl") || has("/model.json"))) return; // the second is that of the oldest TorchScript
  if (exported || has("serialized_exported_program.json") || has("/archive_format")) {
    throw Failure(TM_ERROR_FILE, path + ": an ExportedProgram (torch.export.save), which is not compiled; compile it with torch._inductor.aoti_compile_and_package()");
  }
  if (has("/data.pkl")) throw Failure(TM_ERROR_FILE, path + ": weights or a pickled module (torch.save), not a model; write one with torch.jit.script(model).save()");
  if (entries.empty() && start.compare(0, 4, "PK\003\004") == 0) throw Failure(TM_ERROR_FILE, path + ": a damaged archive: it ends too early");
  throw Failure(TM_ERROR_FILE, path + ": neither a TorchScript model nor an AOTInductor package");
}
