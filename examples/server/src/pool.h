// Threads that run what takes longer than reading a request: loading, slow models, batches.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

class Pool {
 public:
  using Clock = std::chrono::steady_clock;
  using Task = std::function<void()>;

  explicit Pool(int threads) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
  }
  ~Pool() { stop(); }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Ends the threads; what has not begun is not run.
  void stop() {
    {
      const std::lock_guard<std::mutex> held(lock_);
      ended_ = true;
    }
    changed_.notify_all();
    for (std::thread& each : threads_) each.join();
    threads_.clear();
    tasks_.clear();
    later_.clear();
  }

  int size() const { return static_cast<int>(threads_.size()); }

  void post(Task task) {
    {
      const std::lock_guard<std::mutex> held(lock_);
      tasks_.push_back(std::move(task));
    }
    changed_.notify_one();
  }

  void post_at(Clock::time_point when, Task task) {
    {
      const std::lock_guard<std::mutex> held(lock_);
      later_.emplace(when, std::move(task));
    }
    changed_.notify_one();
  }

 private:
  void work() {
    std::unique_lock<std::mutex> held(lock_);
    while (!ended_) {
      const auto now = Clock::now();
      while (!later_.empty() && later_.begin()->first <= now) {
        tasks_.push_back(std::move(later_.begin()->second));
        later_.erase(later_.begin());
      }
      if (tasks_.empty()) {
        if (later_.empty()) {
          changed_.wait(held);
        } else {
          const auto next = later_.begin()->first;
          changed_.wait_until(held, next);
        }
        continue;
      }
      Task task = std::move(tasks_.front());
      tasks_.pop_front();
      if (!tasks_.empty()) changed_.notify_one();
      held.unlock();
      task();
      task = nullptr;
      held.lock();
    }
  }

  std::mutex lock_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  std::multimap<Clock::time_point, Task> later_;
  bool ended_ = false;
  std::vector<std::thread> threads_;
};
