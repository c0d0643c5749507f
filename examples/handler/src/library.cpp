#include "library.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <stdexcept>
#include <vector>

#include "handler_note.h"

namespace handlers {

namespace {

constexpr std::uint64_t largest_library = std::uint64_t{1} << 30;

#if defined(__x86_64__)
constexpr unsigned own_machine = EM_X86_64;
#elif defined(__aarch64__)
constexpr unsigned own_machine = EM_AARCH64;
#else
#error "add this machine's number in ELF files"
#endif

using Facts = std::map<std::string, std::string>;

Facts facts_in(const std::string& text) {
  Facts facts;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::size_t equals = text.find('=', at);
    if (equals < end) facts[text.substr(at, equals - at)] = text.substr(equals + 1, end - equals - 1);
    at = end + 1;
  }
  return facts;
}

// What stands in a file may contain anything; in a message it is printable and short.
std::string shown(std::string text) {
  if (text.size() > 200) text = text.substr(0, 200) + "...";
  for (char& c : text) {
    if (c < ' ' || c > '~') c = '?';
  }
  return text;
}

// The parts of an ELF file that are needed here. Every offset and size in it may be wrong.
class Elf {
 public:
  Elf(const std::string& file, std::string name) : name_(std::move(name)) {
    std::ifstream in(file, std::ios::binary | std::ios::ate);
    if (!in) fail("cannot be read");
    const auto size = in.tellg();
    if (size < 0 || static_cast<std::uint64_t>(size) > largest_library) fail("is larger than a library may be");
    bytes_.resize(static_cast<std::size_t>(size));
    in.seekg(0);
    if (!in.read(bytes_.data(), size)) fail("cannot be read");
    if (bytes_.size() < sizeof header_ || std::memcmp(bytes_.data(), ELFMAG, SELFMAG) != 0) fail("is not a shared library (not an ELF file)");
    header_ = at<Elf64_Ehdr>(0);
    if (header_.e_ident[EI_CLASS] != ELFCLASS64 || header_.e_ident[EI_DATA] != ELFDATA2LSB || header_.e_machine != own_machine) {
      fail("is for another kind of machine than this program (ELF machine " + std::to_string(header_.e_machine) + ", not " + std::to_string(own_machine) + ")");
    }
    if (header_.e_type != ET_DYN || header_.e_phentsize != sizeof(Elf64_Phdr)) fail("is not a shared library");
    for (unsigned i = 0; i < header_.e_phnum; ++i) segments_.push_back(at<Elf64_Phdr>(header_.e_phoff + i * sizeof(Elf64_Phdr)));
    read_dynamic();
  }

  [[noreturn]] void fail(const std::string& fact) const { throw std::runtime_error(name_ + " " + fact); }

  // The facts of every class that HANDLER exports.
  std::vector<Facts> notes() const {
    std::vector<Facts> all;
    for (const Elf64_Phdr& segment : segments_) {
      if (segment.p_type != PT_NOTE) continue;
      const std::string notes = text(segment.p_offset, segment.p_filesz);
      for (std::size_t i = 0; i + sizeof(Elf64_Nhdr) <= notes.size();) {
        Elf64_Nhdr note;
        std::memcpy(&note, notes.data() + i, sizeof note);
        const std::size_t name_at = i + sizeof note;
        const std::size_t text_at = name_at + aligned(note.n_namesz);
        const std::size_t end = text_at + aligned(note.n_descsz);
        if (text_at > notes.size() || note.n_descsz > notes.size() - text_at) break;
        const bool own = note.n_type == HANDLER_NOTE_TYPE && note.n_namesz == sizeof HANDLER_NOTE_NAME &&
                         std::memcmp(notes.data() + name_at, HANDLER_NOTE_NAME, sizeof HANDLER_NOTE_NAME) == 0;
        if (own) all.push_back(facts_in(notes.substr(text_at, note.n_descsz)));
        i = end;
      }
    }
    return all;
  }

  std::vector<std::string> needed() const {
    std::vector<std::string> names;
    for (const Elf64_Dyn& entry : dynamic_) {
      if (entry.d_tag == DT_NEEDED) names.push_back(string(entry.d_un.d_val));
    }
    return names;
  }

  // The names that the library takes from others and cannot do without.
  std::vector<std::string> undefined() const {
    std::vector<std::string> names;
    // The file's own section table says how many symbols there are; the dynamic section does not.
    for (unsigned i = 0; i < header_.e_shnum; ++i) {
      const auto section = at<Elf64_Shdr>(header_.e_shoff + i * sizeof(Elf64_Shdr));
      if (section.sh_type != SHT_DYNSYM) continue;
      for (std::uint64_t k = 1; k < section.sh_size / sizeof(Elf64_Sym); ++k) {
        const auto symbol = at<Elf64_Sym>(section.sh_offset + k * sizeof(Elf64_Sym));
        if (symbol.st_shndx == SHN_UNDEF && ELF64_ST_BIND(symbol.st_info) == STB_GLOBAL) names.push_back(string(symbol.st_name));
      }
    }
    return names;
  }

 private:
  static std::size_t aligned(std::size_t size) { return (size + 3) / 4 * 4; }

  template <typename T>
  T at(std::uint64_t offset) const {
    if (offset > bytes_.size() || bytes_.size() - offset < sizeof(T)) fail("is truncated or damaged");
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof value);
    return value;
  }

  std::string text(std::uint64_t offset, std::uint64_t size) const {
    if (offset > bytes_.size() || bytes_.size() - offset < size) fail("is truncated or damaged");
    return std::string(bytes_.data() + offset, static_cast<std::size_t>(size));
  }

  std::string string(std::uint64_t offset) const {
    if (offset >= strings_.size()) fail("is truncated or damaged");
    const std::size_t end = strings_.find('\0', static_cast<std::size_t>(offset));
    return strings_.substr(static_cast<std::size_t>(offset), end - static_cast<std::size_t>(offset));
  }

  void read_dynamic() {
    std::uint64_t address = 0;
    std::uint64_t size = 0;
    for (const Elf64_Phdr& segment : segments_) {
      if (segment.p_type != PT_DYNAMIC) continue;
      for (std::uint64_t i = 0; i < segment.p_filesz / sizeof(Elf64_Dyn); ++i) {
        const auto entry = at<Elf64_Dyn>(segment.p_offset + i * sizeof(Elf64_Dyn));
        if (entry.d_tag == DT_NULL) break;
        if (entry.d_tag == DT_STRTAB) address = entry.d_un.d_ptr;
        if (entry.d_tag == DT_STRSZ) size = entry.d_un.d_val;
        dynamic_.push_back(entry);
      }
    }
    for (const Elf64_Phdr& segment : segments_) {
      if (segment.p_type == PT_LOAD && address >= segment.p_vaddr && address - segment.p_vaddr < segment.p_filesz) {
        strings_ = text(segment.p_offset + (address - segment.p_vaddr), size);
      }
    }
  }

  std::string name_;
  std::string bytes_;
  Elf64_Ehdr header_{};
  std::vector<Elf64_Phdr> segments_;
  std::vector<Elf64_Dyn> dynamic_;
  std::string strings_;
};

// Whether a mangled name is one of libtorch's: a function, variable, vtable or typeinfo in one of its namespaces.
bool of_libtorch(const std::string& symbol) {
  if (symbol.rfind("aoti_torch_", 0) == 0) return true;
  std::size_t at = 0;
  for (const char* prefix : {"_ZTVN", "_ZTIN", "_ZTSN", "_ZNK", "_ZN"}) {
    if (at == 0 && symbol.rfind(prefix, 0) == 0) at = std::strlen(prefix);
  }
  if (at == 0) return false;
  for (const char* space : {"3c10", "2at", "5torch", "6caffe2"}) {
    if (symbol.compare(at, std::strlen(space), space) == 0) return true;
  }
  return false;
}

std::string demangled(const std::string& symbol) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status), std::free);
  return text ? text.get() : symbol;
}

std::string built_with(const Facts& facts) {
  const auto fact = [&](const char* key) {
    const auto found = facts.find(key);
    return found == facts.end() ? std::string("?") : shown(found->second);
  };
  return "libtorch " + fact("torch") + ", C++ ABI " + fact("cxx11_abi") + ", " + fact("standard_library") + " " +
         fact("standard_library_version") + ", " + fact("compiler") + ", handler interface " + fact("interface");
}

// The first fact in which two sides do not fit together, in words; empty if there is none.
std::string mismatch(const Facts& library, const Facts& own) {
  static const std::pair<const char*, const char*> alike[] = {
      {"interface", "the handler interface"}, {"cxx11_abi", "the C++ ABI (_GLIBCXX_USE_CXX11_ABI)"}, {"standard_library", "the C++ standard library"}, {"torch", "the version of libtorch"}};
  for (const auto& [key, words] : alike) {
    const auto found = library.find(key);
    if (found == library.end() || found->second != own.at(key)) return words;
  }
  return "";
}

bool loaded(const std::string& soname) {
  void* const handle = dlopen(soname.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  if (handle == nullptr) return false;
  dlclose(handle);
  return true;
}

void check_symbols(const Elf& elf) {
  // A library that is not loaded yet may define some of them; dlopen finds out.
  for (const std::string& soname : elf.needed()) {
    const bool libtorch = soname.rfind("libtorch", 0) == 0 || soname.rfind("libc10", 0) == 0;
    if (!libtorch && !loaded(soname)) return;
  }
  std::vector<std::string> missing;
  for (const std::string& symbol : elf.undefined()) {
    if (of_libtorch(symbol) && dlsym(RTLD_DEFAULT, symbol.c_str()) == nullptr) missing.push_back(symbol);
  }
  if (missing.empty()) return;
  elf.fail("needs " + std::to_string(missing.size()) + (missing.size() == 1 ? " symbol" : " symbols") + " that the loaded libtorch (" TORCH_VERSION ") does not have, such as " +
           shown(demangled(missing.front())) + "; build it against that libtorch");
}

}  // namespace

std::pair<std::string, std::string> library_and_class(const std::string& handler) {
  const auto plain = [](const std::string& text, const char* more) {
    return !text.empty() && text.size() <= 200 && std::all_of(text.begin(), text.end(), [&](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || (c != 0 && std::strchr(more, c) != nullptr);
    });
  };
  const std::size_t colon = handler.find(':');
  std::string library = handler.substr(0, colon);
  std::string class_name = colon == std::string::npos ? "" : handler.substr(colon + 1);
  if (library.size() > 3 && library.compare(library.size() - 3, 3, ".so") == 0) library.resize(library.size() - 3);
  if (!plain(library, ".+-") || library.front() == '.' || !plain(class_name, "")) {
    throw std::runtime_error("the handler \"" + shown(handler) + "\" is not of the form libNAME_handler:NameHandler");
  }
  return {library, class_name};
}

std::string class_in(const std::string& file, const std::string& name) {
  const Elf elf(file, name);
  const std::vector<Facts> notes = elf.notes();
  if (notes.size() != 1) elf.fail("exports " + std::to_string(notes.size()) + " handlers");
  const auto found = notes.front().find("class");
  return found == notes.front().end() ? "" : found->second;
}

void check_library(const std::string& file, const std::string& name, const std::string& class_name) {
  const Elf elf(file, name);
  const std::vector<Facts> notes = elf.notes();
  if (notes.empty()) elf.fail("is not a handler: it has no note of what it was built with (HANDLER(" + class_name + ") of handler.h writes it)");
  const Facts own = facts_in(HANDLER_FACTS(""));
  std::string classes;
  for (const Facts& note : notes) {
    const std::string differs = mismatch(note, own);
    if (!differs.empty()) {
      elf.fail("does not fit this program: " + differs + " differs. It was built with " + built_with(note) + "; this program with " + built_with(own) + ". Build it against the same libtorch with the same settings");
    }
    const auto found = note.find("class");
    if (found != note.end() && found->second == class_name) {
      check_symbols(elf);
      return;
    }
    classes += (classes.empty() ? "" : ", ") + (found == note.end() ? "?" : shown(found->second));
  }
  elf.fail("has no handler " + class_name + "; it has " + classes);
}

HandlerPtr make_handler(const std::string& file, const std::string& name, const std::string& class_name) {
  check_library(file, name, class_name);
  void* const library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(name + " cannot be loaded: " + shown(dlerror()));
  // Its functions are named as TorchServe's are.
  const auto make = reinterpret_cast<BaseHandler* (*)()>(dlsym(library, ("allocator" + class_name).c_str()));
  const auto end = reinterpret_cast<void (*)(BaseHandler*)>(dlsym(library, ("deleter" + class_name).c_str()));
  if (make == nullptr || end == nullptr) throw std::runtime_error(name + " does not export allocator" + class_name + " and deleter" + class_name);
  return HandlerPtr(make(), end);
}

}  // namespace handlers
