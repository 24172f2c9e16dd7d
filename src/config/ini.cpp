#include "config/ini.hpp"

#include <algorithm>
#include <optional>

#include "base/text.hpp"

namespace imagecache::config {
namespace {

constexpr std::string_view blanks = " \t\n\r\f\v\x1c\x1d\x1e\x1f";  // what Python's str.strip() drops of ASCII
constexpr std::size_t quoted_line_length = 60;

std::string_view strip_right(std::string_view text) {
  return text.substr(0, text.find_last_not_of(blanks) + 1);  // npos + 1 == 0: all blank
}

std::string_view strip(std::string_view text) {
  text = strip_right(text);
  return text.substr(std::min(text.find_first_not_of(blanks), text.size()));
}

// For a message: never a whole line, which may hold a password; the part before the first separator says enough.
std::string quote(std::string_view line) {
  std::string shown = "'" + std::string(line.substr(0, std::min(line.find_first_of("=:"), quoted_line_length)));
  return shown + (shown.size() <= line.size() ? "…'" : "'");
}

class Parser {
 public:
  IniFile parse(std::string_view text) {
    while (!text.empty()) {
      const auto end = text.find_first_of("\n\r");
      ++line_;
      read_line(strip_right(text.substr(0, end)));
      if (end == std::string_view::npos) break;
      const bool crlf = text[end] == '\r' && end + 1 < text.size() && text[end + 1] == '\n';
      text.remove_prefix(end + (crlf ? 2 : 1));
    }
    flush();
    return std::move(file_);
  }

 private:
  void read_line(std::string_view line) {
    if (line.empty()) return flush();
    if (line.front() == ' ' || line.front() == '\t') return continue_value(line);
    flush();
    if (line.front() == '[') return begin_section(line);
    if (line.front() == '#' || line.front() == ';') return;
    begin_value(line);
  }

  void continue_value(std::string_view line) {
    if (!pending_) {
      if (!broken_value_) complain("starts with a blank, but there is no value to continue: " + quote(strip(line)));
      return;
    }
    pending_->value += '\n';
    pending_->value += strip(line);
  }

  void begin_section(std::string_view line) {
    section_.reset();
    broken_section_ = true;
    if (line.back() != ']') return complain("a section must end with ']', and nothing after it: " + quote(line));
    if (line.size() <= 2) return complain("a section needs a name between '[' and ']'");
    section_ = normalize_section(line.substr(1, line.size() - 2));
    broken_section_ = false;
    if (std::ranges::find(file_.sections, *section_) == file_.sections.end()) file_.sections.push_back(*section_);
  }

  void begin_value(std::string_view line) {
    const auto separator = line.find_first_of("=:");
    broken_value_ = true;  // until it is whole, so that its continuation lines are not complained of as well
    if (separator == std::string_view::npos) return complain("neither a section nor 'key = value': " + quote(line));
    const auto key = strip(line.substr(0, separator));
    if (key.empty()) return complain("there is no key before the '" + std::string(1, line[separator]) + "'");
    if (!section_) {
      if (!broken_section_) complain("'" + std::string(key) + "' stands before any [section]");
      return;
    }
    auto value = strip(line.substr(separator + 1));
    if (!value.empty() && value.front() == value.back() && (value.front() == '"' || value.front() == '\'')) {
      value = value.size() < 2 ? std::string_view() : value.substr(1, value.size() - 2);
    }
    pending_ = IniEntry{*section_, std::string(key), std::string(value), line_};
    broken_value_ = false;
  }

  void flush() {
    broken_value_ = false;
    if (pending_) file_.entries.push_back(std::move(*pending_));
    pending_.reset();
  }

  void complain(std::string message) { file_.problems.push_back({line_, std::move(message)}); }

  IniFile file_;
  unsigned line_ = 0;
  std::optional<std::string> section_;
  std::optional<IniEntry> pending_;
  bool broken_section_ = false;  // its header was complained of: its keys are not, each again
  bool broken_value_ = false;
};

}  // namespace

IniFile parse_ini(std::string_view text) {
  return Parser().parse(text);
}

std::string normalize_section(std::string_view name) {
  return name == "DEFAULT" ? std::string(name) : base::to_lower(name);
}

}  // namespace imagecache::config
