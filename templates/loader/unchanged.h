// Whether a process in which a model has run may run another one: nothing that the next could notice may have changed.
//
// A TorchScript model without libraries of its own can reach, beyond its own objects, the random numbers, the gradient
// mode and other modes of the thread, threads, memory, and what is printed (a warning that libtorch prints once, for
// example). The first four are compared here with what they were; who reads the output compares the last.
#pragma once

#include <string>

#if defined(__linux__) && !defined(LOADER_AOTI) && defined(TORCH_VERSION_MAJOR) && TORCH_VERSION_MAJOR >= 2
#define LOADER_REUSE

#include <ATen/core/Generator.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/util/Exception.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

namespace at {
namespace detail {
const Generator& getDefaultCPUGenerator(); // ATen/CPUGeneratorImpl.h takes a second to compile; the linker checks this
} // namespace detail
} // namespace at

class Unchanged {
 public:
  // The random numbers get their seed here: a forked process has its own, as any program.
  Unchanged() : warnings_(new Warnings()), random_(random_numbers()), gradients_(c10::GradMode::is_enabled()), keys_(c10::impl::tls_local_dispatch_key_set()), most_kib_(Status().resident_kib + small_kib) {
    c10::WarningUtils::set_warning_handler(warnings_);
  }

  // Up to which peak of memory a model leaves a process that others may have.
  double most_mib() const {
    return static_cast<double>(most_kib_) / 1024;
  }

  // Also lets the peak of the process's memory be counted anew.
  bool holds() const {
    if (warnings_->any) return false;
    const auto keys = c10::impl::tls_local_dispatch_key_set();
    if (c10::GradMode::is_enabled() != gradients_ || !(keys.included_ == keys_.included_) || !(keys.excluded_ == keys_.excluded_)) return false;
    const at::Tensor random = random_numbers();
    if (random.nbytes() != random_.nbytes() || std::memcmp(random.data_ptr(), random_.data_ptr(), random.nbytes()) != 0) return false;
    const Status now;
    // The peak, too: what was freed may have taught malloc to keep large blocks.
    if (now.threads != 1 || now.peak_kib < 0 || now.peak_kib > most_kib_) return false;
    std::ofstream peak("/proc/self/clear_refs");
    peak << 5 << std::flush; // see proc(5)
    return peak.good();
  }

 private:
  // What a model may take, with the pages of libtorch that it uses: a small one uses 20 MiB of those.
  static constexpr long small_kib = 32 * 1024;

  // Some are given once in a process, and the calls whose output is discarded may give them.
  struct Warnings : c10::WarningHandler {
    void process(const c10::Warning& warning) override {
      any = true;
      c10::WarningHandler::process(warning);
    }
    bool any = false;
  };

  struct Status {
    Status() {
      std::ifstream status("/proc/self/status");
      for (std::string line; std::getline(status, line);) {
        if (line.compare(0, 6, "VmRSS:") == 0) resident_kib = std::atol(line.c_str() + 6);
        if (line.compare(0, 6, "VmHWM:") == 0) peak_kib = std::atol(line.c_str() + 6);
        if (line.compare(0, 8, "Threads:") == 0) threads = std::atol(line.c_str() + 8);
      }
    }
    long resident_kib = -1, peak_kib = -1, threads = -1;
  };

  static at::Tensor random_numbers() {
    return at::detail::getDefaultCPUGenerator().get_state();
  }

  Warnings* warnings_;  // libtorch may warn as long as the process lives
  at::Tensor random_;
  bool gradients_;
  c10::impl::LocalDispatchKeySet keys_;
  long most_kib_;
};

#endif
