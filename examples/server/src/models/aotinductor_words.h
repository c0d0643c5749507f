// What a compiled model says is wrong. It throws inside its own library, which prints the sentence to std::cerr; libtorch throws
// again without it.
#pragma once

#include <iostream>
#include <streambuf>
#include <string>

// While one lives, what its thread writes to std::cerr is kept instead of printed.
class Overheard {
 public:
  Overheard() : before_(text()) {
    static Tee tee;
    text() = &kept_;
  }
  ~Overheard() { text() = before_; }
  Overheard(const Overheard&) = delete;
  Overheard& operator=(const Overheard&) = delete;

  std::string sentence(const std::string& otherwise) const {
    const std::size_t at = kept_.find("Error: ");
    if (at == std::string::npos) return otherwise;
    const std::string found = kept_.substr(at + 7);
    return found.substr(0, found.find('\n'));
  }

 private:
  static std::string*& text() {
    thread_local std::string* current = nullptr;
    return current;
  }

  class Tee : public std::streambuf {
   public:
    Tee() : printed_(std::cerr.rdbuf(this)) {}
    ~Tee() override { std::cerr.rdbuf(printed_); }

   protected:
    int overflow(int letter) override {
      if (letter == traits_type::eof()) return 0;
      if (text() == nullptr) return printed_->sputc(static_cast<char>(letter));
      *text() += static_cast<char>(letter);
      return letter;
    }
    std::streamsize xsputn(const char* bytes, std::streamsize count) override {
      if (text() == nullptr) return printed_->sputn(bytes, count);
      text()->append(bytes, static_cast<std::size_t>(count));
      return count;
    }
    int sync() override { return text() == nullptr ? printed_->pubsync() : 0; }

   private:
    std::streambuf* printed_;
  };

  std::string* before_;
  std::string kept_;
};
