// The Open Inference Protocol, version 2: health, metadata, the repository. infer.cpp has the inference.
#include <algorithm>
#include <initializer_list>

#include "../json.h"
#include "../values/dtypes.h"
#include "../values/reading.h"
#include "api.h"

namespace {

// Takes `NAME/versions/1/VERB` apart, where the version and the verb may be missing; `path` is the verb afterwards. A name has the
// directories that the model is in, so that it is what is left of the rest.
std::string take_name(std::string_view& path, std::initializer_list<std::string_view> verbs) {
  std::string_view name = path, verb;
  const std::size_t slash = name.rfind('/');
  if (slash != std::string_view::npos && std::find(verbs.begin(), verbs.end(), name.substr(slash + 1)) != verbs.end()) {
    verb = name.substr(slash + 1);
    name = name.substr(0, slash);
  }
  const std::size_t before = name.rfind('/');
  constexpr std::string_view versions = "/versions";
  if (before != std::string_view::npos && before > versions.size() && name.substr(before - versions.size(), versions.size()) == versions) {
    const std::string_view version = name.substr(before + 1);
    if (version != "1") throw RequestError(404, "the model has no version " + std::string(version) + ", only 1");
    name = name.substr(0, before - versions.size());
  }
  path = verb;
  return percent_decoded(name);
}

bool loads_parameters(const Request& request) {
  if (request.body->empty()) return false;
  const Json json(*request.body);
  simdjson::dom::object parameters;
  if (!json.root().is_object()) throw RequestError(400, "the body must be a JSON object");
  return json.root()["parameters"].get(parameters) == simdjson::SUCCESS && (parameters["config"].error() == simdjson::SUCCESS);
}

}  // namespace

std::string ports_json(const std::vector<Port>& ports) {
  std::string out = "[";
  for (const Port& port : ports) {
    out += out.size() > 1 ? ",{\"name\":" : "{\"name\":";
    append_json(out, std::string_view(port.name));
    const bool text = port.type && port.type->kind() == c10::TypeKind::StringType;
    const bool whole = port.type && port.type->kind() == c10::TypeKind::IntType, real = port.type && port.type->kind() == c10::TypeKind::FloatType;
    const bool logical = port.type && port.type->kind() == c10::TypeKind::BoolType;
    const std::string known = protocol_name(port.data_type);
    // A TorchScript tensor has no dtype before it is there: most are float32.
    out += ",\"datatype\":\"" + (text ? "BYTES" : whole ? "INT64" : real ? "FP64" : logical ? "BOOL" : known.empty() ? "FP32" : known) + "\",\"shape\":[";
    const std::vector<int64_t> shape = text || whole || real || logical ? std::vector<int64_t>{1} : port.ranked ? port.shape : std::vector<int64_t>{-1};
    for (std::size_t i = 0; i < shape.size(); ++i) {
      if (i > 0) out += ',';
      append_json(out, shape[i]);
    }
    out += "]}";
  }
  return out + "]";
}

void Api::protocol(const Request& request, const Reply& reply, Route& which) {
  std::string_view path = request.path.substr(3);
  if (path.empty() || path == "/") {
    only(request, "GET");
    return reply(json_response(R"({"name":"server","version":"1.0","extensions":["binary_tensor_data","model_repository"]})"));
  }
  path.remove_prefix(1);
  if (path == "health/live" || path == "health/ready") {
    only(request, "GET");
    return reply(json_response(path == "health/live" ? "{\"live\":true}" : "{\"ready\":true}"));
  }
  if (path.substr(0, 11) == "repository/") return repository(path.substr(11), request, reply);
  if (path.substr(0, 7) != "models/") throw RequestError(404, "no such route");
  path.remove_prefix(7);
  const std::string name = take_name(path, {"infer", "ready"});
  if (path == "infer") {
    which = Route::infer;
    only(request, "POST");
    return infer(name, request, reply);
  }
  only(request, "GET");
  if (path.empty()) return metadata(name, reply);
  // Ready is what can be loaded: a model that nobody has asked for yet is loaded now.
  cache_.get(catalog_.find_named(name), [reply, name](const std::shared_ptr<Model>&, std::exception_ptr failed) {
    if (failed) return reply(response_of(failed));
    reply(json_response("{\"name\":" + json_string(name) + ",\"ready\":true}"));
  });
}

void Api::metadata(const std::string& name, const Reply& reply) {
  cache_.get(catalog_.find_named(name), [reply, name](const std::shared_ptr<Model>& model, std::exception_ptr failed) {
    if (failed) return reply(response_of(failed));
    const Signature& signature = model->servable->signature();
    reply(json_response("{\"name\":" + json_string(name) + ",\"versions\":[\"1\"],\"platform\":\"" + model->servable->platform() + "\",\"inputs\":" + ports_json(signature.inputs) +
        ",\"outputs\":" + ports_json(signature.outputs) + "}"));
  });
}

void Api::repository(std::string_view path, const Request& request, const Reply& reply) {
  only(request, "POST");
  if (path == "index") {
    bool ready_only = false;
    if (!request.body->empty()) {
      const Json json(*request.body);
      if (!json.root().is_object()) throw RequestError(400, "the body must be a JSON object");
      if (json.root()["ready"].get(ready_only) != simdjson::SUCCESS) ready_only = false;
    }
    std::string out = "[";
    std::string before;
    for (const Listed& each : catalog_.list()) {
      if (each.name == before || catalog_.file_of(each.name) != each.file) continue;  // another file has this name
      const Cache::State state = cache_.state(each.file);
      if (ready_only && state.name != std::string_view("READY")) continue;
      before = each.name;
      out += out.size() > 1 ? ",{\"name\":" : "{\"name\":";
      append_json(out, std::string_view(each.name));
      out += std::string(",\"version\":\"1\",\"state\":\"") + state.name + "\",\"reason\":";
      append_json(out, std::string_view(state.reason));
      out += '}';
    }
    return reply(json_response(out + "]"));
  }
  if (path.substr(0, 7) != "models/") throw RequestError(404, "no such route");
  path.remove_prefix(7);
  const std::string name = take_name(path, {"load", "unload"});
  const Found found = catalog_.find_named(name);
  if (path == "load") {
    if (loads_parameters(request)) throw RequestError(400, "a model has no config that could be given");
    return cache_.load(found, [reply](const std::shared_ptr<Model>&, std::exception_ptr failed) { reply(failed ? response_of(failed) : json_response("{}")); });
  }
  if (path.empty()) throw RequestError(404, "no such route");
  cache_.unload(found.file);
  reply(json_response("{}"));
}
