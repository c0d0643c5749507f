// What the server answers: each route's function, and what they share.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "../http/http.h"
#include "../metrics.h"
#include "../models/cache.h"
#include "../models/catalog.h"
#include "../pool.h"

struct ApiOptions {
  std::int64_t max_queue = 1024;  // requests that wait at one time
};

class Api {
 public:
  Api(const ApiOptions& options, Catalog& catalog, Cache& cache, Pool& pool, Metrics& metrics)
      : options_(options), catalog_(catalog), cache_(cache), pool_(pool), metrics_(metrics) {}

  void handle(const Request& request, const Reply& reply);

 private:
  using Written = std::function<Response(const c10::IValue&)>;
  using Work = std::function<void(const std::shared_ptr<Model>&, std::string& body, const Reply&)>;

  // routes.cpp
  void route(const Request& request, const Reply& reply, Route& which);
  void with_model(const Found& found, std::string& body, const Reply& reply, const Work& work);
  void call(const std::shared_ptr<Model>& model, std::vector<c10::IValue> arguments, std::size_t body_size, const Reply& reply, const Written& written);
  void later(const Reply& reply, std::function<void()> work);
  std::string models_json();
  std::string page();

  // predict.cpp
  void predict(const Found& found, const Request& request, const Reply& reply);

  // protocol.cpp
  void protocol(const Request& request, const Reply& reply, Route& which);
  void infer(const std::string& name, const Request& request, const Reply& reply);
  void metadata(const std::string& name, const Reply& reply);
  void repository(std::string_view path, const Request& request, const Reply& reply);

  const ApiOptions options_;
  Catalog& catalog_;
  Cache& cache_;
  Pool& pool_;
  Metrics& metrics_;
};

// Throws RequestError(405) where the request has another method.
void only(const Request& request, std::string_view method);

Response json_response(std::string body, int status = 200);
Response error_response(int status, std::string_view fact);
Response response_of(std::exception_ptr failed);

// One part of a path, or a value of a query: `a%20b` is `a b`. Throws RequestError(400) where it encodes a slash or a NUL, or is
// not an encoding.
std::string percent_decoded(std::string_view text);

// The value of `name=…`, in which `+` is a space. Throws RequestError(400) where it is missing.
std::string query_value(std::string_view query, std::string_view name);

// A model's inputs and outputs as JSON, in the protocol's words.
std::string ports_json(const std::vector<Port>& ports);
