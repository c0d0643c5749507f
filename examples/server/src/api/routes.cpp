#include <algorithm>
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
  struct Asked {
    Metrics& metrics;
    Reply reply;
    std::chrono::steady_clock::time_point start;
    Route route;  // known before anything is answered, but not yet here
  };
  const auto asked = std::make_shared<Asked>(Asked{metrics_, reply, start, Route::other});
  const Reply counted = [asked](Response response) {
    asked->metrics.answered(asked->route, response.status, std::chrono::steady_clock::now() - asked->start);
    --asked->metrics.in_flight;
    asked->reply(std::move(response));
  };
  try {
    route(request, counted, asked->route);
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
    const std::string file = query_value(request.query, "servable_identifier");
    return predict({file, catalog_.find(file)}, request, reply);
  }
  if (starts(path, "/predictions/")) {
    which = Route::predictions;
    only(request, "POST");
    return predict(catalog_.find_named(last_part(path, "/predictions/")), request, reply);
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
    const bool loaded = cache_.state(each.file).name == std::string_view("READY");
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

void Api::with_model(const Found& found, std::string& body, const Reply& reply, const Work& work) {
  const auto worked = [](const std::shared_ptr<Model>& model, std::string& text, const Reply& answer, const Work& todo) {
    ++model->metrics.requests;
    try {
      todo(model, text, answer);
    } catch (...) {
      ++model->metrics.errors;
      answer(response_of(std::current_exception()));
    }
  };
  // Mostly it is in memory: then nothing has to be kept until it is.
  if (const std::shared_ptr<Model> model = cache_.loaded(found)) return worked(model, body, reply, work);
  const auto kept = std::make_shared<std::string>(std::move(body));
  // Requests that wait for a model to be loaded wait, too.
  if (metrics_.queued >= options_.max_queue) throw RequestError(503, "too many requests wait");
  ++metrics_.queued;
  const auto counted = std::shared_ptr<void>(nullptr, [this](void*) { --metrics_.queued; });
  auto token = std::make_shared<std::shared_ptr<void>>(counted);
  cache_.get(found, [kept, reply, token, work, worked](const std::shared_ptr<Model>& model, std::exception_ptr failed) {
    token->reset();
    if (failed) return reply(response_of(failed));
    worked(model, *kept, reply, work);
  });
}

void Api::call(const std::shared_ptr<Model>& model, std::vector<c10::IValue> arguments, std::size_t body_size, const Reply& reply, const Written& written) {
  // Functions that outlive this one get copies of what they need; a quick call makes none.
  const auto answer = [](Model& called, const Reply& to, const Written& write, const c10::IValue& result, const std::exception_ptr& failed) {
    Response response;
    try {
      if (failed) std::rethrow_exception(failed);
      response = write(result);
    } catch (...) {
      ++called.metrics.errors;
      response = response_of(std::current_exception());
    }
    to(std::move(response));
  };
  const auto alone = [answer](Model& called, const Reply& to, const Written& write, std::vector<c10::IValue> values, std::size_t size) {
    c10::IValue result;
    std::exception_ptr failed;
    const auto start = std::chrono::steady_clock::now();
    try {
      result = called.servable->call(std::move(values));
    } catch (...) {
      failed = std::current_exception();
    }
    const std::int64_t took = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start).count();
    called.lately.add(size, took);
    called.metrics.batches.observe(1, batch_bounds);
    answer(called, to, write, result, failed);
  };
  if (model->batcher->joins() && metrics_.queued < options_.max_queue) {
    ++metrics_.queued;
    if (model->batcher->take(arguments, [this, answer, model, reply, written](c10::IValue result, std::exception_ptr failed) {
          --metrics_.queued;
          answer(*model, reply, written, result, failed);
        })) {
      return;
    }
    --metrics_.queued;
  }
  // A number may say how long to compute, so that the last call tells nothing of this one.
  bool tensors = true;
  for (const c10::IValue& each : arguments) tensors = tensors && each.isTensor();
  const std::int64_t lately = model->lately.of(body_size);
  const bool quick = tensors && lately >= 0 && lately < quick_nanoseconds && body_size <= small_body;
  if (quick) return alone(*model, reply, written, std::move(arguments), body_size);
  later(reply, [alone, model, reply, written, body_size, values = std::make_shared<std::vector<c10::IValue>>(std::move(arguments))] {
    alone(*model, reply, written, std::move(*values), body_size);
  });
}
