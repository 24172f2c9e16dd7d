#include "config/files.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <system_error>

#include "base/fd.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "config/ini.hpp"

namespace imagecache::config {
namespace {

constexpr std::size_t file_limit_bytes = 4 << 20;

bool begins_name(char c) {
  return c == '_' || std::isalpha(static_cast<unsigned char>(c)) != 0;
}

bool continues_name(char c) {
  return begins_name(c) || c == '.' || std::isdigit(static_cast<unsigned char>(c)) != 0;
}

// The length of the name at the start of `text`, 0 if none is there.
std::size_t name_length(std::string_view text) {
  if (text.empty() || !begins_name(text.front())) return 0;
  return static_cast<std::size_t>(std::ranges::find_if_not(text, continues_name) - text.begin());
}

}  // namespace

Files Files::read(const std::vector<ConfigSource>& sources, Problems& problems) {
  Files files;
  for (const auto& source : sources) {
    if (source.kind == ConfigSource::Kind::file) {
      files.add_file(source.path, problems);
    } else {
      files.add_directory(source.path, problems);
    }
  }
  return files;
}

void Files::add_file(const std::filesystem::path& path, Problems& problems) {
  auto text = base::read_small_file(path, file_limit_bytes);
  if (!text) {
    problems.push_back(fmt::format("cannot read the configuration file {}", text.error().message));
    return;
  }
  add_text(*text, path.native(), problems);
}

void Files::add_directory(const std::filesystem::path& path, Problems& problems) {
  std::error_code error;
  std::vector<std::filesystem::path> found;
  for (std::filesystem::directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error)) {
    const auto name = entry->path().filename().native();
    if (name.ends_with(".conf") && !name.starts_with('.')) found.push_back(entry->path());
  }
  if (error) {
    problems.push_back(fmt::format("cannot read the configuration directory {}: {}", path.native(), error.message()));
    return;
  }
  std::ranges::sort(found);
  for (const auto& file : found) add_file(file, problems);
}

void Files::add_text(std::string_view text, const std::string& name, Problems& problems) {
  auto file = parse_ini(text);
  for (const auto& problem : file.problems) {
    problems.push_back(fmt::format("{}:{}: {}", name, problem.line, problem.message));
  }
  for (const auto& section : file.sections) sections_.try_emplace(section);
  for (auto& entry : file.entries) {
    add(entry.section, entry.key, {std::move(entry.value), fmt::format("{}:{}", name, entry.line)});
  }
}

void Files::add(std::string_view section, std::string_view key, Occurrence occurrence) {
  sections_[std::string(section)][std::string(key)].push_back(std::move(occurrence));
}

bool Files::has_section(std::string_view section) const {
  return sections_.contains(section);
}

const std::map<std::string, std::vector<Occurrence>, std::less<>>& Files::keys(std::string_view section) const {
  static const std::map<std::string, std::vector<Occurrence>, std::less<>> none;
  const auto found = sections_.find(section);
  return found == sections_.end() ? none : found->second;
}

const std::vector<Occurrence>& Files::occurrences(std::string_view section, std::string_view key) const {
  static const std::vector<Occurrence> none;
  const auto& in_section = keys(section);
  const auto found = in_section.find(key);
  return found == in_section.end() ? none : found->second;
}

Result<std::string> substitute(std::string_view text, const Lookup& lookup) {
  std::string result;
  const auto replace = [&](std::string_view name) -> Result<void> {
    IMAGECACHE_TRY(auto value, lookup(name));
    if (!value) return fail(Errc::not_found, fmt::format("${} is not set in any file", name));
    result += *value;
    return {};
  };
  while (!text.empty()) {
    const auto dollar = text.find('$');
    const bool escaped = dollar != std::string_view::npos && dollar > 0 && text[dollar - 1] == '\\';
    result += text.substr(0, escaped ? dollar - 1 : dollar);
    if (dollar == std::string_view::npos) break;
    text.remove_prefix(dollar + 1);
    if (escaped) {
      result += '$';
      continue;
    }
    if (text.starts_with('$')) {
      result += '$';
      text.remove_prefix(1);
      continue;
    }
    const bool braces = text.starts_with('{');
    const auto length = name_length(braces ? text.substr(1) : text);
    const bool closed = !braces || (length + 1 < text.size() && text[length + 1] == '}');
    if (length == 0 || !closed) {
      result += '$';
      continue;
    }
    IMAGECACHE_CHECK(replace(text.substr(braces ? 1 : 0, length)));
    text.remove_prefix(length + (braces ? 2 : 0));
  }
  return result;
}

}  // namespace imagecache::config
