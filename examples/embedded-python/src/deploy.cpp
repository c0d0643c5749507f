// The public interface (include/multipy/runtime/deploy.h), on top of the backends.
#include "backend.h"
#include "configuration.h"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>
#include <caffe2/serialize/inline_container.h>
#include <multipy/runtime/deploy.h>
#include <multipy/runtime/path_environment.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace torch {
namespace deploy {

namespace {

std::atomic<std::uint64_t> last_session{0};
std::atomic<std::int64_t> last_number{0};

detail::Arguments with_values(std::vector<at::IValue> values, std::unordered_map<std::string, at::IValue> named = {}) {
  return {std::move(values), {}, std::move(named)};
}

}  // namespace

// ---- packages

namespace detail {

namespace {

template <typename Source>
void check_package(const std::string& name, const Source& source) {
  bool found = false;
  try {
    found = caffe2::serialize::PyTorchStreamReader(source).hasRecord(".data/extern_modules");
  } catch (const c10::Error& error) {
    const std::string what = error.what_without_backtrace();
    TORCH_CHECK(false, name, ": not a package of torch.package: ", what.substr(0, std::min(what.find('\n'), what.find(". "))));
  }
  TORCH_CHECK(found, name, ": not a package of torch.package: it has no .data/extern_modules");
}

class Bytes : public caffe2::serialize::ReadAdapterInterface {
 public:
  explicit Bytes(at::Tensor bytes) : bytes_(std::move(bytes)) {}
  size_t size() const override { return static_cast<size_t>(bytes_.numel()); }
  size_t read(std::uint64_t position, void* into, size_t count, const char*) const override {
    const size_t there = position < size() ? std::min(count, size() - static_cast<size_t>(position)) : 0;
    if (there) std::memcpy(into, static_cast<const char*>(bytes_.data_ptr()) + position, there);
    return there;
  }

 private:
  at::Tensor bytes_;
};

}  // namespace

PackageFile::PackageFile(std::string given, int opened, at::Tensor content)
    : key(++last_number), name(std::move(given)), descriptor(opened), bytes(std::move(content)) {}

// Where the constructor that did the work has ended, the destructor closes what the check refuses.
PackageFile::PackageFile(const std::string& path)
    : PackageFile(path, open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK), {}) {
  TORCH_CHECK(descriptor >= 0, path, ": ", std::strerror(errno));
  struct stat about;
  TORCH_CHECK(fstat(descriptor, &about) == 0 && S_ISREG(about.st_mode), path, ": not a regular file");
  check_package(path, "/proc/self/fd/" + std::to_string(descriptor));
}

PackageFile::PackageFile(at::Tensor content) : PackageFile("a package in memory", -1, std::move(content)) {
  check_package(name, std::shared_ptr<caffe2::serialize::ReadAdapterInterface>(std::make_shared<Bytes>(bytes)));
}

PackageFile::~PackageFile() {
  if (descriptor >= 0) close(descriptor);
}

}  // namespace detail

// ---- Obj

detail::Object& Obj::object() const {
  if (!object_) throw InterpreterError("an Obj that refers to no Python object was used.");
  return *object_;
}

at::IValue Obj::toIValue() const {
  detail::Object& own = object();
  return own.backend->to_ivalue(own);
}

Obj Obj::operator()(at::ArrayRef<Obj> args) {
  detail::Arguments arguments;
  for (const Obj& each : args) {
    each.object();
    arguments.objects.push_back(each.object_);
  }
  return {object().backend->call(object(), arguments), session_};
}

Obj Obj::operator()(at::ArrayRef<at::IValue> args) {
  return {object().backend->call(object(), with_values(args.vec())), session_};
}

Obj Obj::callKwargs(std::vector<at::IValue> args, std::unordered_map<std::string, c10::IValue> kwargs) {
  return {object().backend->call(object(), with_values(std::move(args), std::move(kwargs))), session_};
}

Obj Obj::callKwargs(std::unordered_map<std::string, c10::IValue> kwargs) { return callKwargs({}, std::move(kwargs)); }

bool Obj::hasattr(const char* attr) { return object().backend->hasattr(object(), attr); }

Obj Obj::attr(const char* attr) { return {object().backend->attr(object(), attr), session_}; }

// ---- replicated objects

struct ReplicatedObj::Shared {
  detail::Pickled pickled;
  InterpreterManager* manager;
  std::vector<std::weak_ptr<detail::Backend>> backends;  // the manager may be gone first

  ~Shared() {
    for (const auto& each : backends) {
      try {
        if (const auto backend = each.lock()) backend->unload(pickled.number);
      } catch (const std::exception&) {  // an interpreter that has died holds nothing
      }
    }
  }
};

ReplicatedObj::Shared& ReplicatedObj::shared() const {
  if (!shared_) throw InterpreterError("a ReplicatedObj that refers to no Python object was used.");
  return *shared_;
}

// ---- sessions

InterpreterSession::InterpreterSession(std::shared_ptr<detail::Backend> backend, InterpreterManager* manager)
    : backend_(std::move(backend)), manager_(manager), id_(++last_session) {}

InterpreterSession::~InterpreterSession() = default;

Obj InterpreterSession::global(const char* module, const char* name) { return {backend_->global(module, name), id_}; }

Obj InterpreterSession::fromIValue(at::IValue value) { return {backend_->from_ivalue(value), id_}; }

ReplicatedObj InterpreterSession::createMovable(Obj obj) { return manager_->createMovable(std::move(obj), this); }

Obj InterpreterSession::fromMovable(const ReplicatedObj& obj) { return {backend_->replica(obj.shared().pickled), id_}; }

InterpreterSession Interpreter::acquireSession() const { return {backend_, manager_}; }

// ---- the use of replicated objects

InterpreterSession ReplicatedObj::acquireSession(const Interpreter* onThisInterpreter) const {
  InterpreterSession session = onThisInterpreter ? onThisInterpreter->acquireSession() : shared().manager->acquireOne();
  session.self = session.fromMovable(*this);
  session.package_ = shared().pickled.package;
  return session;
}

at::IValue ReplicatedObj::operator()(at::ArrayRef<at::IValue> args) const { return callKwargs(args.vec(), {}); }

at::IValue ReplicatedObj::callKwargs(
    std::vector<at::IValue> args,
    std::unordered_map<std::string, c10::IValue> kwargs) const {
  const InterpreterSession session = shared().manager->acquireOne();
  return session.backend_->call_replica(shared().pickled, with_values(std::move(args), std::move(kwargs)));
}

at::IValue ReplicatedObj::callKwargs(std::unordered_map<std::string, c10::IValue> kwargs) const {
  return callKwargs({}, std::move(kwargs));
}

bool ReplicatedObj::hasattr(const char* attr) const { return acquireSession().self.hasattr(attr); }

void ReplicatedObj::unload(const Interpreter* onThisInterpreter) {
  if (onThisInterpreter) return onThisInterpreter->backend_->unload(shared().pickled.number);
  for (const Interpreter& each : shared().manager->instances_) unload(&each);
}

Obj ReplicatedObj::toObj(InterpreterSession* session) { return session->fromMovable(*this); }

// ---- packages, from outside

InterpreterSession Package::acquireSession() {
  InterpreterSession session = manager_->acquireOne();
  session.self = Obj(session.backend_->open_package(file_), session.id_);
  session.package_ = file_;
  return session;
}

ReplicatedObj Package::loadPickle(const std::string& module, const std::string& file) {
  InterpreterSession session = acquireSession();
  const Obj loaded = file_->reading([&] { return session.self.attr("load_pickle")({module, file}); });
  try {
    return createMovable(loaded, &session);
  } catch (const PythonError&) {
    // What torch.package has a way of its own to store (a ScriptModule) is loaded by every interpreter itself.
    detail::Pickled pickled;
    pickled.package = file_;
    pickled.module = module;
    pickled.file = file;
    return manager_->replicate(std::move(pickled));
  }
}

std::string Package::loadText(const std::string& package, const std::string& key) {
  InterpreterSession session = acquireSession();
  return file_->reading([&] { return session.self.attr("load_text")({package, key}).toIValue().toStringRef(); });
}

std::string Package::loadBinary(const std::string& package, const std::string& key) {
  InterpreterSession session = acquireSession();
  return file_->reading([&] { return session.self.attr("load_binary")({package, key}).toIValue().toStringRef(); });
}

ReplicatedObj Package::createMovable(Obj obj, InterpreterSession* session) {
  return manager_->createMovable(std::move(obj), session);
}

// ---- the load balancer

LoadBalancer::LoadBalancer(std::size_t n) : users_(n), limit_(n) {}

void LoadBalancer::setResourceLimit(std::size_t n) {
  TORCH_CHECK(n > 0 && n <= users_.size(), "there are ", users_.size(), " interpreters, not ", n);
  limit_ = n;
}

int LoadBalancer::acquire() {
  const std::size_t limit = limit_;
  thread_local std::size_t next = 0;  // a thread returns to the interpreter that it used last
  std::size_t least = next % limit;
  std::uint64_t fewest = UINT64_MAX;
  for (std::size_t step = 0; step < limit; ++step) {
    const std::size_t where = (next + step) % limit;
    std::uint64_t users = 0;
    if (users_[where].count.compare_exchange_strong(users, 1)) {
      next = where;
      return static_cast<int>(where);
    }
    if (users < fewest) {
      fewest = users;
      least = where;
    }
  }
  users_[least].count.fetch_add(1);
  next = least;
  return static_cast<int>(least);
}

void LoadBalancer::free(int where) { users_[static_cast<std::size_t>(where)].count.fetch_sub(1); }

// ---- the manager

InterpreterManager::InterpreterManager(std::size_t nInterp, std::shared_ptr<Environment> env, Isolation isolation)
    : resources_(nInterp) {
  TORCH_CHECK(nInterp > 0, "an InterpreterManager needs at least one interpreter");
  const std::vector<std::string>& paths = env->getExtraPythonPaths();
  const auto backends =
      isolation == Isolation::Process ? detail::start_processes(nInterp, paths) : detail::acquire_in_process(nInterp, paths);
  for (const auto& backend : backends) instances_.push_back(Interpreter(backend, this));
  for (Interpreter& each : instances_) {
    env->configureInterpreter(&each);
    each.backend_->restarted = [env, &each] { env->configureInterpreter(&each); };
  }
  registerModuleSource(
      "GetArgumentNamesModule",
      "from inspect import signature\n"
      "def getArgumentNames(function):\n"
      "    return list(signature(function).parameters) or None\n");
}

InterpreterManager::~InterpreterManager() {
  std::vector<std::shared_ptr<detail::Backend>> backends;
  for (const Interpreter& each : instances_) {
    try {
      each.backend_->flush();
    } catch (const std::exception&) {  // an interpreter that has died has printed what it had
    }
    each.backend_->restarted = nullptr;
    backends.push_back(each.backend_);
  }
  instances_.clear();
  detail::release_in_process(backends);
}

InterpreterSession InterpreterManager::acquireOne() {
  const int where = resources_.acquire();
  InterpreterSession session = instances_[static_cast<std::size_t>(where)].acquireSession();
  session.lease_ = std::shared_ptr<void>(nullptr, [this, where](void*) { resources_.free(where); });
  return session;
}

void InterpreterManager::debugLimitInterpreters(std::size_t n) { resources_.setResourceLimit(n); }

Package InterpreterManager::loadPackage(const std::string& uri) {
  return {std::make_shared<detail::PackageFile>(uri), this};
}

Package InterpreterManager::loadPackage(std::shared_ptr<caffe2::serialize::ReadAdapterInterface> reader) {
  const auto size = static_cast<std::int64_t>(reader->size());
  at::Tensor bytes = at::empty({size}, at::kByte);
  reader->read(0, bytes.data_ptr(), static_cast<std::size_t>(size), "package");
  return {std::make_shared<detail::PackageFile>(bytes), this};
}

void InterpreterManager::registerModuleSource(std::string name, std::string src) {
  for (const Interpreter& each : instances_) each.backend_->register_source(name, src);
  ++moduleSources_;
}

ReplicatedObj InterpreterManager::createMovable(Obj obj, InterpreterSession* session) {
  if (!session->isOwner(obj))
    throw InterpreterError("Cannot create movable from an object that lives in different session");
  return replicate(session->backend_->pickle(obj.object(), session->package_));
}

ReplicatedObj InterpreterManager::replicate(detail::Pickled pickled) {
  auto shared = std::make_shared<ReplicatedObj::Shared>();
  shared->pickled = std::move(pickled);
  shared->pickled.number = ++last_number;
  shared->manager = this;
  for (const Interpreter& each : instances_) shared->backends.push_back(each.backend_);
  return ReplicatedObj(std::move(shared));
}

// ---- environments

// On sys.path before torch is imported, so that torch may be there as well.
PathEnvironment::PathEnvironment(std::string path) {
  if (!path.empty()) extraPythonPaths_.push_back(std::move(path));
}

void PathEnvironment::configureInterpreter(Interpreter* interpreter) {
  InterpreterSession session = interpreter->acquireSession();
  Obj paths = session.global("sys", "path");
  // An interpreter that an earlier manager started may not have it.
  for (const std::string& path : extraPythonPaths_)
    if (!paths.attr("__contains__")({path}).toIValue().toBool()) paths.attr("append")({path});
}

// ---- methods

#ifdef EMBEDDED_PYTHON_HAS_IMETHOD
c10::IValue PythonMethodWrapper::operator()(std::vector<c10::IValue> args, const IValueMap& kwargs) const {
  InterpreterSession session = model_.acquireSession();
  return session.self.attr(methodName_.c_str()).callKwargs(std::move(args), kwargs).toIValue();
}

void PythonMethodWrapper::setArgumentNames(std::vector<std::string>& names) const {
  InterpreterSession session = model_.acquireSession();
  Obj method = session.self.attr(methodName_.c_str());
  const at::IValue found =
      session.global("GetArgumentNamesModule", "getArgumentNames")(at::ArrayRef<Obj>(method)).toIValue();
  if (found.isNone()) return;
  for (const at::IValue& name : found.toListRef()) names.push_back(name.toStringRef());
}
#endif

void reserveInterpreters(std::size_t n, char** argv) {
  constexpr std::size_t kWithout = 8;  // as many as glibc's default reserve carries
  const char* before = std::getenv("GLIBC_TUNABLES");
  if (n <= kWithout || (before && std::strstr(before, "glibc.rtld.optional_static_tls="))) return;
  const std::string tunables =
      std::string(before && *before ? before : "") + (before && *before ? ":" : "") +
      "glibc.rtld.nns=16:glibc.rtld.optional_static_tls=65536";
  setenv("GLIBC_TUNABLES", tunables.c_str(), 1);
  execv("/proc/self/exe", argv);
}

}  // namespace deploy
}  // namespace torch
