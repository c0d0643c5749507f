#include <algorithm>
#include <atomic>
#include <new>

#include "../json.h"
#include "api.h"
#include "page.h"

namespace {

constexpr std::int64_t quick_nanoseconds = 1000000;  // a call that takes less is made where its request was read
constexpr std::size_t small_body = 64 << 10;

std::string last_part(std::string_view path, std::string_view prefix) { return percent_decoded(path.substr(prefix.size())); }

bool starts(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }

}  // namespace

void only(const Request& request, std::string_view method) {
  if (request.method != method) throw RequestError(405, "use " + std::string(method));
}

Response json_response(std::string body, int status) {
  Response response;
  response.status = status;
  response.body = std::move(body);
  return response;
}

Response error_response(int status, std::string_view fact) {
  std::string body = "{\"error\":";
  append_json(body, fact);
  body += '}';
  Response response = json_response(std::move(body), status);
  if (status == 503) response.headers.emplace_back("Retry-After", "1");
  return response;
}

Response response_of(std::exception_ptr failed) {
  try {
    std::rethrow_exception(failed);
  } catch (const RequestError& error) {
    return error_response(error.status, error.what());
  } catch (const std::bad_alloc&) {
    return error_response(503, "out of memory");
  } catch (const std::exception& error) {
    return error_response(500, error.what());
  } catch (...) {
    return error_response(500, "an unknown error");
  }
}

std::string percent_decoded(std::string_view text) {
  const auto digit = [](char letter) { return letter >= '0' && letter <= '9' ? letter - '0' : letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : letter >= 'A' && letter <= 'F' ? letter - 'A' + 10 : -1; };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char letter = text[i];
    if (letter == '%') {
      const int high = i + 2 < text.size() ? digit(text[i + 1]) : -1, low = high >= 0 ? digit(text[i + 2]) : -1;
      if (low < 0) throw RequestError(400, "'%' must be followed by two hexadecimal digits");
      letter = static_cast<char>(high * 16 + low);
      if (letter == '/' || letter == '\\') throw RequestError(400, "a name cannot hold an encoded slash");
      i += 2;
    }
    if (letter == '\0') throw RequestError(400, "a name cannot hold a NUL");
    out += letter;
  }
  return out;
}

std::string query_value(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    if (starts(pair, name) && pair.size() > name.size() && pair[name.size()] == '=') {
      std::string value(pair.substr(name.size() + 1));
      std::replace(value.begin(), value.end(), '+', ' ');  // as HTML forms and the clients of most languages write a space
      return percent_decoded(value);
    }
  }
  throw RequestError(400, "the query has no " + std::string(name) + "=…");
}

void Api::handle(const Request& request, const Reply& reply) {
  const auto start = std::chrono::steady_clock::now();
  ++metrics_.in_flight;
  // The route is known before anything is answered, but not yet here.
  const auto which = std::make_shared<Route>(Route::other);
  const Reply counted = [this, reply, start, which](Response response) {
    metrics_.answered(*which, response.status, std::chrono::steady_clock::now() - start);
    --metrics_.in_flight;
    reply(std::move(response));
  };
  try {
    route(request, counted, *which);
  } catch (...) {
    counted(response_of(std::current_exception()));
  }
}

void Api::route(const Request& request, const Reply& reply, Route& which) {
  const std::string_view path = request.path;
  if (path == "/ping") {
    which = Route::ping;
    only(request, "GET");
    return reply(json_response("{\"status\":\"Healthy\"}"));
  }
  if (path == "/serve") {
    which = Route::serve;
    only(request, "POST");
    return predict(query_value(request.query, "servable_identifier"), request, reply);
  }
  if (starts(path, "/predictions/")) {
    which = Route::predictions;
    only(request, "POST");
    return predict(catalog_.file_of(last_part(path, "/predictions/")), request, reply);
  }
  if (path == "/v2" || starts(path, "/v2/")) {
    which = Route::protocol;
    return protocol(request, reply, which);
  }
  if (path == "/models") {
    which = Route::models;
    only(request, "GET");
    return reply(json_response(models_json()));
  }
  if (path == "/metrics") {
    which = Route::metrics;
    only(request, "GET");
    Response response;
    response.content_type = "text/plain; version=0.0.4; charset=utf-8";
    response.body = metrics_.text();
    return reply(std::move(response));
  }
  if (path == "/") {
    which = Route::page;
    only(request, "GET");
    Response response;
    response.content_type = "text/html; charset=utf-8";
    response.body = page_html;
    return reply(std::move(response));
  }
  throw RequestError(404, "no such route");
}

std::string Api::models_json() {
  std::string out = "{\"models\":[";
  bool first = true;
  for (const Listed& each : catalog_.list()) {
    out += first ? "{\"name\":" : ",{\"name\":";
    first = false;
    append_json(out, std::string_view(each.name));
    out += ",\"file\":";
    append_json(out, std::string_view(each.file));
    bool loaded = false;
    try {
      loaded = cache_.is_loaded(each.file);
    } catch (const RequestError&) {  // it vanished just now
    }
    out += loaded ? ",\"loaded\":true}" : ",\"loaded\":false}";
  }
  return out + "]}";
}

// Runs in the pool, unless too much waits there already.
void Api::later(const Reply& reply, std::function<void()> work) {
  if (metrics_.queued >= options_.max_queue) return reply(error_response(503, "too many requests wait"));
  ++metrics_.queued;
  pool_.post([this, reply, work = std::move(work)] {
    --metrics_.queued;
    try {
      work();
    } catch (...) {
      reply(response_of(std::current_exception()));
    }
  });
}

void Api::with_model(const std::string& file, std::string body, const Reply& reply, Work work) {
  const auto kept = std::make_shared<std::string>(std::move(body));
  // Requests that wait for a model to be loaded wait, too.
  if (metrics_.queued >= options_.max_queue) throw RequestError(503, "too many requests wait");
  ++metrics_.queued;
  const auto counted = std::shared_ptr<void>(nullptr, [this](void*) { --metrics_.queued; });
  auto token = std::make_shared<std::shared_ptr<void>>(counted);
  cache_.get(file, [this, kept, reply, token, work = std::move(work)](const std::shared_ptr<Model>& model, std::exception_ptr failed) {
    token->reset();
    if (failed) return reply(response_of(failed));
    ++model->metrics.requests;
    try {
      work(model, *kept, reply);
    } catch (...) {
      ++model->metrics.errors;
      reply(response_of(std::current_exception()));
    }
  });
}

void Api::call(const std::shared_ptr<Model>& model, std::vector<c10::IValue> arguments, std::size_t body_size, const Reply& reply, std::function<Response(const c10::IValue&)> written) {
  const auto answer = [model, reply, written = std::move(written)](const c10::IValue& result, std::exception_ptr failed) {
    Response response;
    try {
      if (failed) std::rethrow_exception(failed);
      response = written(result);
    } catch (...) {
      ++model->metrics.errors;
      response = response_of(std::current_exception());
    }
    reply(std::move(response));
  };
  const auto alone = [model, answer, body_size](std::vector<c10::IValue> values) {
    c10::IValue result;
    std::exception_ptr failed;
    const auto start = std::chrono::steady_clock::now();
    try {
      result = model->servable->call(std::move(values));
    } catch (...) {
      failed = std::current_exception();
    }
    const std::int64_t took = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start).count();
    model->lately.add(body_size, took);
    model->metrics.batches.observe(1, batch_bounds);
    answer(result, failed);
  };
  if (metrics_.queued < options_.max_queue) {
    ++metrics_.queued;
    auto waiting = std::make_shared<std::atomic<bool>>(true);
    if (model->batcher->take(arguments, [this, answer](c10::IValue result, std::exception_ptr failed) {
          --metrics_.queued;
          answer(result, failed);
        })) {
      return;
    }
    --metrics_.queued;
  }
  // A number may say how long to compute, so that the last call tells nothing of this one.
  bool tensors = true;
  for (const c10::IValue& each : arguments) tensors = tensors && each.isTensor();
  const std::int64_t lately = model->lately.of(body_size);
  if (tensors && lately >= 0 && lately < quick_nanoseconds && body_size <= small_body) return alone(std::move(arguments));
  later(reply, [alone, values = std::make_shared<std::vector<c10::IValue>>(std::move(arguments))] { alone(std::move(*values)); });
}
