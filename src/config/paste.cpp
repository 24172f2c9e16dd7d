#include "config/paste.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <span>

#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::config {
namespace {

constexpr unsigned most_interpolations = 1000;
constexpr std::size_t most_entries = 10000;  // of a section, and sections; Glance's own file has 20

const PasteEntry* find_entry(const std::vector<PasteEntry>& entries, std::string_view key) {
  const auto found = std::ranges::find(entries, key, &PasteEntry::key);
  return found == entries.end() ? nullptr : &*found;
}

class Parser {
 public:
  explicit Parser(std::string path) { file_.path = std::move(path); }

  Result<PasteFile> parse(std::string_view text) {
    if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
    for (unsigned number = 1; !text.empty(); ++number) {
      const auto end = text.find('\n');
      auto line = text.substr(0, end);
      text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
      if (line.ends_with('\r')) line.remove_suffix(1);
      IMAGECACHE_CHECK(add_line(line, number));
    }
    finish_value();
    return std::move(file_);
  }

 private:
  // Newlines that ConfigParser keeps inside a value are dropped at its end.
  void finish_value() {
    if (entry_ == nullptr) return;
    while (!entry_->value.empty() && entry_->value.back() == '\n') entry_->value.pop_back();
    entry_ = nullptr;
  }

  Result<void> add_line(std::string_view line, unsigned number) {
    const auto content = base::trim(line);
    if (content.starts_with('#') || content.starts_with(';')) return {};
    if (content.empty()) {
      if (entry_ != nullptr) entry_->value += '\n';
      return {};
    }
    const auto indent = static_cast<std::size_t>(content.data() - line.data());
    if (entry_ != nullptr && indent > indent_) {
      entry_->value += '\n';
      entry_->value += content;
      return {};
    }
    finish_value();
    indent_ = indent;
    if (content.starts_with('[') && content.rfind(']') != std::string_view::npos && content.rfind(']') > 1) {
      return add_section(content.substr(1, content.rfind(']') - 1), number);
    }
    return add_entry(content, number);
  }

  Result<void> add_section(std::string_view header, unsigned number) {
    if (header == "DEFAULT") {
      entries_ = &file_.defaults;
      return {};
    }
    const auto colon = header.find(':');
    PasteSection section{.kind = {}, .name = std::string(header), .line = number, .entries = {}};
    if (colon != std::string_view::npos) {
      section.kind = header.substr(0, colon);
      section.name = base::trim(header.substr(colon + 1));
    }
    for (const auto& other : file_.sections) {
      if (other.kind != section.kind || other.name != section.name) continue;
      return refuse(number, fmt::format("[{}] is in line {} already", header, other.line));
    }
    if (file_.sections.size() >= most_entries) return refuse(number, "there are far too many sections");
    file_.sections.push_back(std::move(section));
    entries_ = &file_.sections.back().entries;
    return {};
  }

  Result<void> add_entry(std::string_view content, unsigned number) {
    if (entries_ == nullptr) return refuse(number, "stands before the first [section]");
    const auto separator = content.find_first_of("=:");
    const auto key = base::trim(content.substr(0, separator));
    if (separator == std::string_view::npos || key.empty()) {
      return refuse(number, "neither [kind:name] nor 'key = value'");
    }
    if (const auto* other = find_entry(*entries_, key)) {
      return refuse(number, fmt::format("{} is in line {} already", key, other->line));
    }
    if (entries_->size() >= most_entries) return refuse(number, "there are far too many lines in this section");
    entries_->push_back({std::string(key), std::string(base::trim(content.substr(separator + 1))), number});
    entry_ = &entries_->back();
    return {};
  }

  std::unexpected<Error> refuse(unsigned number, std::string_view what) const {
    return fail(Errc::invalid_argument, fmt::format("{}: {}", file_.where(number), what));
  }

  PasteFile file_;
  std::vector<PasteEntry>* entries_ = nullptr;  // of the section being read
  PasteEntry* entry_ = nullptr;                 // that goes on; the last of *entries_
  std::size_t indent_ = 0;
};

Result<const PasteSection*> only(const PasteFile& file, std::string_view name,
                                 std::span<const std::string_view> kinds) {
  const PasteSection* found = nullptr;
  for (const auto& section : file.sections) {
    if (section.name != name || std::ranges::find(kinds, section.kind) == kinds.end()) continue;
    if (found != nullptr) {
      return fail(Errc::conflict, fmt::format("{}: {} and {} have the same name; glance-api would not know which",
                                              file.where(section.line), found->header(), section.header()));
    }
    found = &section;
  }
  return found;
}

}  // namespace

Result<PasteFile> parse_paste(std::string_view text, std::string path) {
  return Parser(std::move(path)).parse(text);
}

Result<const PasteSection*> PasteFile::find_app(std::string_view app) const {
  static constexpr std::array<std::string_view, 6> kinds = {"app",      "application", "composite",
                                                            "composit", "pipeline",    "filter-app"};
  return only(*this, app, kinds);
}

Result<const PasteSection*> PasteFile::find_filter(std::string_view filter) const {
  static constexpr std::array<std::string_view, 1> kinds = {"filter"};
  return only(*this, filter, kinds);
}

const PasteEntry* PasteFile::find(const PasteSection& section, std::string_view key) const {
  const auto* entry = find_entry(section.entries, key);
  return entry != nullptr ? entry : find_entry(defaults, key);
}

Result<std::optional<std::string>> PasteFile::value(const PasteSection& section, std::string_view key) const {
  const auto* entry = find(section, key);
  if (entry == nullptr) return std::nullopt;
  unsigned left = most_interpolations;
  IMAGECACHE_TRY(auto text, interpolate(section, *entry, left));
  return std::optional(std::move(text));
}

Result<std::string> PasteFile::interpolate(const PasteSection& section, const PasteEntry& entry, unsigned& left) const {
  const auto refuse = [&](std::string_view what) {
    return fail(Errc::invalid_argument, fmt::format("{}: {}: {}", where(entry.line), entry.key, what));
  };
  if (left == 0) return refuse("%(...)s refers to itself, or to far too much");
  --left;
  constexpr std::size_t longest = 1 << 20;
  std::string out;
  std::string_view rest = entry.value;
  while (true) {
    const auto percent = rest.find('%');
    out += rest.substr(0, percent);
    if (out.size() > longest) return refuse("is too long with its %(...)s replaced");
    if (percent == std::string_view::npos) return out;
    rest.remove_prefix(percent + 1);
    if (rest.starts_with('%')) {
      out += '%';
      rest.remove_prefix(1);
      continue;
    }
    const auto close = rest.find(")s");
    if (!rest.starts_with('(') || close == std::string_view::npos) {
      return refuse("a percent sign is written %% here, and another value is named by %(name)s");
    }
    const auto name = rest.substr(1, close - 1);
    rest.remove_prefix(close + 2);
    const auto absolute = std::filesystem::path(path).lexically_normal();
    if (const auto* other = find(section, name)) {
      IMAGECACHE_TRY(const auto text, interpolate(section, *other, left));
      out += text;
    } else if (name == "here") {
      out += absolute.parent_path().native();
    } else if (name == "__file__") {
      out += absolute.native();
    } else {
      return refuse(fmt::format("%({})s is set neither here nor in [DEFAULT]", name));
    }
  }
}

}  // namespace imagecache::config
