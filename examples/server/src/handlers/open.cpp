// Archives as models: without a handler of their own like any model, else with a handler in its processes.
#include <sys/stat.h>

#include <atomic>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <future>
#include <mutex>
#include <thread>
#include <tuple>

#include "../servable.h"
#include "archive.h"
#include "library.h"
#include "scratch.h"
#include "values.h"
#include "workers.h"

namespace fs = std::filesystem;

namespace {

// A library in --handlers DIR may be replaced at any time.
using Version = std::tuple<dev_t, ino_t, off_t, std::int64_t, std::int64_t>;

Version version_of(const std::string& file) {
  struct stat status {};
  if (stat(file.c_str(), &status) != 0) return {};
  return {status.st_dev, status.st_ino, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
}

class HandlerModel : public Servable {
 public:
  // `shared` is the library in --handlers; empty where the archive has its own.
  HandlerModel(HandlerFiles files, std::shared_ptr<Scratch> scratch, std::string shared, const OpenOptions& options)
      : files_(std::move(files)), scratch_(std::move(scratch)), shared_(std::move(shared)), options_(options) {
    files_.keep = scratch_;
    std::error_code unknown;
    const auto size = fs::file_size(files_.directory + "/" + files_.manifest.serialized_file, unknown);
    bytes_ = unknown ? 0 : static_cast<std::size_t>(size);
    version_ = version_of(shared_);
    use(make());
  }

  ~HandlerModel() override {
    if (renewal_.joinable()) renewal_.join();
  }

  const char* platform() const override { return "pytorch_handler"; }
  const Signature& signature() const override { return *signature_.load(); }
  std::size_t bytes() const override { return bytes_; }
  bool may_batch() const override { return false; }
  bool takes_bodies() const override { return true; }

  c10::IValue call(std::vector<c10::IValue> arguments) override {
    return unpacked(ask(packed(c10::ivalue::Tuple::create(std::move(arguments)))));
  }

  Message call(const Message& message) override {
    std::promise<Message> promise;
    auto result = promise.get_future();
    call_later(message, [&promise](Message answer, std::exception_ptr failed) {
      if (failed) return promise.set_exception(failed);
      promise.set_value(std::move(answer));
    });
    return result.get();
  }

  void call_later(const Message& message, Answered answered) override {
    current()->ask(Writer(frame::body).text(message.content_type).text(message.body).bytes(), [answered = std::move(answered)](const std::string& answer, std::exception_ptr failed) {
      Message out;
      if (!failed) {
        Reader in(answer);
        out.content_type = in.text();
        out.body = in.text();
      }
      answered(std::move(out), failed);
    });
  }

 private:
  std::string ask(std::string frame) {
    std::promise<std::string> promise;
    auto result = promise.get_future();
    current()->ask(std::move(frame), [&promise](std::string answer, std::exception_ptr failed) {
      if (failed) return promise.set_exception(failed);
      promise.set_value(std::move(answer));
    });
    return result.get();
  }

  // With a copy of the library, so that what was checked is what is opened, and writing over the file harms no process.
  std::shared_ptr<Workers> make() {
    HandlerFiles files = files_;
    if (!shared_.empty()) {
      const auto place = std::make_shared<Scratch>();
      files.library = place->path() + "/" + fs::path(shared_).filename().string();
      std::error_code failed;
      fs::copy_file(shared_, files.library, failed);
      if (failed) throw RequestError(500, "the handler's library cannot be read: " + failed.message());
      files.keep = std::make_shared<std::pair<std::shared_ptr<Scratch>, std::shared_ptr<Scratch>>>(scratch_, place);
    }
    return std::make_shared<Workers>(std::move(files), options_.workers, std::chrono::seconds(options_.timeout_seconds));
  }

  void use(std::shared_ptr<Workers> workers) {
    signatures_.push_back(workers->signature());
    signature_ = &signatures_.back();
    workers_ = std::move(workers);
  }

  // The processes that answer now. A replaced library is loaded meanwhile; the old one answers until that is done.
  std::shared_ptr<Workers> current() {
    const std::lock_guard<std::mutex> held(lock_);
    if (!shared_.empty() && !renewing_ && version_of(shared_) != version_) {
      if (renewal_.joinable()) renewal_.join();
      renewing_ = true;
      renewal_ = std::thread([this] { renew(); });
    }
    if (broken_) std::rethrow_exception(broken_);
    return workers_;
  }

  void renew() {
    for (;;) {
      const Version version = version_of(shared_);
      std::shared_ptr<Workers> made;
      std::exception_ptr failed;
      try {
        made = make();
      } catch (...) {
        failed = std::current_exception();
        // It may be half written.
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
      }
      if (failed && version_of(shared_) != version) continue;
      const std::lock_guard<std::mutex> held(lock_);
      version_ = version;
      broken_ = failed;
      if (made) use(std::move(made));
      renewing_ = false;
      return;
    }
  }

  HandlerFiles files_;
  const std::shared_ptr<Scratch> scratch_;
  const std::string shared_;
  const OpenOptions options_;
  std::size_t bytes_ = 0;

  std::mutex lock_;
  std::shared_ptr<Workers> workers_;
  std::deque<Signature> signatures_;  // of all libraries so far: one may still be in use
  std::atomic<const Signature*> signature_{nullptr};
  Version version_;
  std::exception_ptr broken_;  // why the library that is there now cannot be used
  bool renewing_ = false;
  std::thread renewal_;
};

bool is_built_in(const std::string& handler) {
  return handler == "TorchScriptHandler" || handler == "AOTInductorHandler" || handler == "BaseHandler";
}

}  // namespace

std::unique_ptr<Servable> open_archive(const std::string& path, const OpenOptions& options) {
  const Archive archive(path);
  const handlers::Manifest& manifest = archive.manifest();
  if (archive.runtime() != "LSP") throw RequestError(422, "the archive is for the runtime \"" + archive.runtime() + "\"; this server runs those written with `torch-model-archiver --runtime LSP`");
  const auto scratch = std::make_shared<Scratch>();
  if (is_built_in(manifest.handler)) {
    if (manifest.serialized_file.empty()) throw RequestError(422, "the archive has no model (--serialized-file)");
    archive.extract(manifest.serialized_file, scratch->path());
    const std::string file = scratch->path() + "/" + manifest.serialized_file;
    const bool compiled = fs::path(file).extension() == ".pt2" || manifest.handler == "AOTInductorHandler";
    return compiled ? open_aotinductor(file) : open_torchscript(file);
  }

  HandlerFiles files;
  files.manifest = manifest;
  files.directory = scratch->path() + "/model";
  std::string library;
  try {
    library = handlers::library_and_class(manifest.handler).first + ".so";
  } catch (const std::exception& error) {
    throw RequestError(422, error.what());
  }
  std::string shared;
  if (archive.has(library)) {
    files.library = files.directory + "/" + library;
  } else {
    shared = options.handlers + "/" + library;
    if (options.handlers.empty() || !fs::is_regular_file(shared)) {
      throw RequestError(422, "the library " + library + " is neither in the archive nor in the directory of --handlers");
    }
  }
  archive.extract_all(files.directory);
  return std::make_unique<HandlerModel>(std::move(files), scratch, shared, options);
}

std::string name_of_archive(const std::string& path) {
  try {
    return Archive(path).manifest().model_name;
  } catch (const std::exception&) {
    return fs::path(path).stem().string();
  }
}
