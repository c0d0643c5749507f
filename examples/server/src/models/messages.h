// libtorch's messages, shortened to the line that says what is wrong.
#pragma once

#include <string>

// Of an exception that passed through TorchScript's interpreter that is the last line: the rest is where it happened.
inline std::string first_line(const std::string& text) {
  std::string kept = text;
  if (kept.find("Traceback of TorchScript") != std::string::npos) {
    const std::size_t end = kept.find_last_not_of(" \n");
    kept.resize(end == std::string::npos ? 0 : end + 1);
    for (const char* const mark : {"\nRuntimeError: ", "\nbuiltins."}) {
      const std::size_t at = kept.rfind(mark);
      if (at != std::string::npos) return first_line(kept.substr(at + std::string(mark).size()));
    }
    const std::size_t last = kept.rfind('\n');
    if (last != std::string::npos) kept.erase(0, last + 1);
  }
  const std::size_t start = kept.find_first_not_of(" \n");
  if (start == std::string::npos) return "an error without a message";
  kept.erase(0, start);
  return kept.substr(0, kept.find('\n'));
}
