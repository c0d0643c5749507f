// The Open Inference Protocol, version 2: health, metadata, the repository. infer.cpp has the inference.
#include "../json.h"
#include "../values/dtypes.h"
#include "../values/reading.h"
#include "api.h"

namespace {

// `NAME/rest` taken apart; the version, of which there is only one, is left out.
std::string take_name(std::string_view& path) {
  const std::size_t slash = path.find('/');
  const std::string name = percent_decoded(path.substr(0, slash));
  path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
  if (path.substr(0, 9) == "versions/") {
    path.remove_prefix(9);
    const std::string_view version = path.substr(0, path.find('/'));
    if (version != "1") throw RequestError(404, "the model has no version " + std::string(version) + ", only 1");
    path.remove_prefix(std::min(path.size(), version.size() + 1));
  }
  return name;
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
  const std::string name = take_name(path);
  if (path == "infer") {
    which = Route::infer;
    only(request, "POST");
    return infer(name, request, reply);
  }
  if (!path.empty() && path != "ready") throw RequestError(404, "no such route");
  only(request, "GET");
  if (path.empty()) return metadata(name, reply);
  // Ready is what can be loaded: a model that nobody has asked for yet is loaded now.
  cache_.get(catalog_.file_of(name), [reply, name](const std::shared_ptr<Model>&, std::exception_ptr failed) {
    if (failed) return reply(response_of(failed));
    reply(json_response("{\"name\":" + json_string(name) + ",\"ready\":true}"));
  });
}

void Api::metadata(const std::string& name, const Reply& reply) {
  cache_.get(catalog_.file_of(name), [reply, name](const std::shared_ptr<Model>& model, std::exception_ptr failed) {
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
      const bool loaded = cache_.is_loaded(each.file);
      if (ready_only && !loaded) continue;
      before = each.name;
      out += out.size() > 1 ? ",{\"name\":" : "{\"name\":";
      append_json(out, std::string_view(each.name));
      out += ",\"version\":\"1\",\"state\":";
      out += loaded ? "\"READY\",\"reason\":\"\"}" : cache_.is_unloaded(each.file) ? "\"UNAVAILABLE\",\"reason\":\"unloaded\"}" : "\"UNAVAILABLE\",\"reason\":\"not loaded yet\"}";
    }
    return reply(json_response(out + "]"));
  }
  if (path.substr(0, 7) != "models/") throw RequestError(404, "no such route");
  path.remove_prefix(7);
  const std::string name = take_name(path);
  const std::string file = catalog_.file_of(name);
  if (path == "load") {
    if (loads_parameters(request)) throw RequestError(400, "a model has no config that could be given");
    return cache_.load(file, [reply](const std::shared_ptr<Model>&, std::exception_ptr failed) { reply(failed ? response_of(failed) : json_response("{}")); });
  }
  if (path != "unload") throw RequestError(404, "no such route");
  cache_.unload(file);
  reply(json_response("{}"));
}
