// A handler's process, as the server sees it.
#pragma once

#include <sys/types.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "../servable.h"
#include "handler.h"
#include "wire.h"

struct HandlerFiles {
  std::string library;    // the file to open
  std::string directory;  // of the archive's files
  handlers::Manifest manifest;
  std::shared_ptr<const void> keep;  // what removes these files when nobody needs them
};

// The process has ended before it answered; what() says how.
class ProcessDied : public std::runtime_error {
 public:
  ProcessDied(const std::string& how, bool read) : std::runtime_error(how), read(read) {}
  const bool read;  // whether it may have begun what it was asked
};

class Process {
 public:
  // Starts it and has it load the handler. It ends when the thread that called this ends. Throws RequestError, ProcessDied
  // or TooLate.
  Process(const HandlerFiles& files, Deadline deadline);
  // Ends it, at once if it was `killed`, else when it has closed the model.
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  const Signature& signature() const { return signature_; }
  bool alive() const;

  // Has it answer one frame. After ProcessDied or TooLate it is of no further use. Throws RequestError, too.
  std::string ask(const std::string& frame, Deadline deadline);

 private:
  std::string end(bool at_once);

  pid_t pid_ = -1;
  int socket_ = -1;
  Signature signature_;
};
