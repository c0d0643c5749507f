#include "worker.h"

#include <ATen/Parallel.h>
#include <ATen/core/function_schema.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <exception>
#include <thread>

#include "../models/messages.h"
#include "../servable.h"
#include "../values/reading.h"
#include "../values/writing.h"
#include "handler.h"
#include "library.h"
#include "values.h"
#include "wire.h"

namespace {

using handlers::BadRequest;

// The socket is this process's only link. When the server is gone nobody waits for an answer, not even of a handler that hangs.
void end_with_server() {
  pollfd socket{worker_socket, POLLRDHUP, 0};
  while (poll(&socket, 1, -1) <= 0) {
  }
  sleep(1);  // for the handler to end in good order
  _exit(0);
}

void set_up() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The end comes through the socket, after the last request: a signal to the server's whole group is not for this process.
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) std::signal(signal, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  fcntl(worker_socket, F_SETFD, FD_CLOEXEC);
#ifdef SYS_close_range
  syscall(SYS_close_range, static_cast<unsigned>(worker_socket) + 1, ~0U, 0U);  // the server's sockets and files
#endif
  std::thread(end_with_server).detach();
}

Port port_of(const c10::Argument& argument, const std::string& name) {
  Port port;
  port.name = name;
  port.type = argument.type();
  port.required = !argument.default_value().has_value();
  return port;
}

Signature signature_of(const c10::FunctionSchema* schema) {
  Signature signature;
  if (schema == nullptr) return signature;
  for (std::size_t i = 0; i < schema->arguments().size(); ++i) {
    const c10::Argument& argument = schema->arguments()[i];
    if (i > 0 || argument.name() != "self") signature.inputs.push_back(port_of(argument, argument.name()));
  }
  for (const c10::Argument& result : schema->returns()) {
    const auto tuple = result.type()->cast<c10::TupleType>();
    for (const c10::TypePtr& type : tuple ? tuple->elements().vec() : std::vector<c10::TypePtr>{result.type()}) {
      const std::string name = "output" + std::to_string(signature.outputs.size());
      signature.outputs.push_back(port_of(c10::Argument(name, type), name));
    }
  }
  return signature;
}

std::string written(const Signature& signature) {
  Writer out(frame::ready);
  for (const auto* const ports : {&signature.inputs, &signature.outputs}) {
    out.number(ports->size());
    for (const Port& port : *ports) out.text(port.name).text(port.type ? port.type->annotation_str() : "").number(port.required ? 1 : 0);
  }
  return out.bytes();
}

std::string failure(int status, const std::string& text) {
  return Writer(frame::failed).number(static_cast<std::uint64_t>(status)).text(text).bytes();
}

// The frame that `answer` returns, or the one that reports its exception: with `status` where the exception has none.
template <typename Answer>
std::string guarded(int status, const Answer& answer) {
  try {
    return answer();
  } catch (const RequestError& error) {
    return failure(error.status, error.what());
  } catch (const BadRequest& error) {
    return failure(400, error.what());
  } catch (const c10::Error& error) {
    return failure(status, "the handler failed: " + first_line(error.what_without_backtrace()));
  } catch (const std::exception& error) {
    return failure(status, "the handler failed: " + first_line(error.what()));
  } catch (...) {
    return failure(status, "the handler failed with an exception that says nothing");
  }
}

class Worker {
 public:
  // Throws what the library's check or the handler throws.
  explicit Worker(Reader load)
      : handler_(nullptr, nullptr) {
    at::set_num_threads(static_cast<int>(load.number()));
    at::set_num_interop_threads(1);
    const std::string library = load.text();
    const std::string directory = load.text();
    handlers::Manifest manifest;
    manifest.model_name = load.text();
    manifest.model_version = load.text();
    manifest.serialized_file = load.text();
    manifest.handler = load.text();
    const auto [name, class_name] = handlers::library_and_class(manifest.handler);
    try {
      handler_ = handlers::make_handler(library, name + ".so", class_name);
    } catch (const std::exception& error) {
      throw RequestError(422, error.what());  // without a word of the handler, which has not run
    }
    handler_->Initialize(directory, manifest);
    handler_->LoadModel(c10::kCPU);
    signature_ = signature_of(handler_->Schema());
  }

  const Signature& signature() const { return signature_; }

  std::string answer(const std::string& bytes) {
    Reader in(bytes);
    handlers::Request request;
    request.id = std::to_string(++count_);
    if (in.kind == frame::values) {
      request.arguments = [&bytes] { return unpacked(bytes).toTupleRef().elements().vec(); };
    } else {
      request.content_type = in.text();
      request.body = in.text();
      request.arguments = [&] {
        std::string text = request.body;
        const Json json(text);
        return read_arguments(json.root(), signature_);
      };
    }
    handlers::Response response;
    handler_->Handle(request, response);
    const bool as_value = response.content_type.empty();
    if (response.status < 200 || response.status > 299) {
      if (as_value && response.value.isString()) response.body = response.value.toStringRef();
      return failure(response.status, response.body.empty() ? "the handler refused" : response.body);
    }
    if (in.kind == frame::values) {
      if (!as_value) throw RequestError(400, "this handler answers with " + response.content_type + "; ask it through /predictions");
      return packed(response.value);
    }
    if (as_value) {
      response.content_type = "application/json";
      response.body.clear();
      append_value(response.body, response.value);
    }
    return Writer(frame::body).text(response.content_type).text(response.body).bytes();
  }

 private:
  handlers::HandlerPtr handler_;
  Signature signature_;
  std::uint64_t count_ = 0;
};

}  // namespace

int handler_worker() {
  set_up();
  try {
    const std::string load = receive_frame(worker_socket, Deadline::max());
    std::unique_ptr<Worker> worker;
    const std::string first = guarded(422, [&] {
      worker = std::make_unique<Worker>(Reader(load));
      return written(worker->signature());
    });
    send_frame(worker_socket, first, Deadline::max());
    while (worker) {
      const std::string request = receive_frame(worker_socket, Deadline::max());
      send_frame(worker_socket, guarded(500, [&] { return worker->answer(request); }), Deadline::max());
    }
  } catch (const WireError&) {
    // The server has closed the socket; the handler has ended in good order.
  }
  _exit(0);  // not through the destructors of what the library brought along
}
