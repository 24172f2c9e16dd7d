#include "config/paste_walk.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>

#include "base/fd.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::config {
namespace {

constexpr unsigned most_steps = 1000;  // sections on one way; one that is longer goes round in a circle
constexpr unsigned most_files = 8;
constexpr std::string_view application_name = "glance-api";

// "egg:…", "config:…", "call:…"
bool is_uri(std::string_view name) {
  const auto colon = name.find(':');
  return colon != std::string_view::npos && colon > 0 && std::ranges::all_of(name.substr(0, colon), [](char c) {
           return std::isalpha(static_cast<unsigned char>(c)) != 0;
         });
}

std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> found;
  std::string word;
  for (const char c : text) {
    if (std::isspace(static_cast<unsigned char>(c)) == 0) {
      word += c;
    } else if (!word.empty()) {
      found.push_back(std::exchange(word, {}));
    }
  }
  if (!word.empty()) found.push_back(std::move(word));
  return found;
}

// Of a map of paths: how much of `url_path` the key stands for; nullopt if it is for other paths, or no path.
std::optional<std::size_t> matches(std::string_view key, std::string_view url_path) {
  if (!key.starts_with('/')) return std::nullopt;
  while (key.ends_with('/')) key.remove_suffix(1);
  const bool whole = url_path.size() == key.size() || (url_path.size() > key.size() && url_path[key.size()] == '/');
  return url_path.starts_with(key) && whole ? std::optional(key.size()) : std::nullopt;
}

}  // namespace

Result<void> PasteWalk::go_down(std::string_view name) {
  if (++steps_ < most_steps) return {};
  return fail(Errc::invalid_argument, fmt::format("{}: {} leads back to itself", file_.path, name));
}

Result<std::string> PasteWalk::factory(const PasteSection& section) const {
  static constexpr std::array<std::string_view, 7> keys = {
      "glance.filter_factory",   "glance.app_factory",     "paste.filter_factory", "paste.filter_app_factory",
      "paste.composite_factory", "paste.composit_factory", "paste.app_factory"};
  for (const auto key : keys) {
    IMAGECACHE_TRY(auto text, file_.value(section, key));
    if (text) return *std::move(text);
  }
  IMAGECACHE_TRY(auto use, file_.value(section, "use"));
  return use.value_or(std::string());
}

Result<void> PasteWalk::note(const PasteSection& section) {
  IMAGECACHE_TRY(const auto text, factory(section));
  auto found = filter_of_factory(text);
  if (found == Filter::unknown) found = filter_of_name(section.name);
  seen_.insert(found);
  return {};
}

Result<void> PasteWalk::application(std::string_view name, std::string_view url_path) {
  IMAGECACHE_CHECK(go_down(name));
  if (is_uri(name)) return elsewhere(name, url_path, false);
  IMAGECACHE_TRY(const auto* section, file_.find_app(name));
  if (section == nullptr) {
    return fail(Errc::not_found, fmt::format("{}: there is no application {}: no [pipeline:{}], [composite:{}] or "
                                             "[app:{}]",
                                             file_.path, name, name, name, name));
  }
  IMAGECACHE_TRY(const auto around, file_.value(*section, "filter-with"));
  if (around) IMAGECACHE_CHECK(filter(*around));
  if (section->kind == "pipeline") {
    IMAGECACHE_TRY(const auto names, file_.value(*section, "pipeline"));
    if (!names) {
      return fail(Errc::invalid_argument,
                  fmt::format("{}: {} has no line 'pipeline = ...'", file_.where(section->line), section->header()));
    }
    return pipeline(*names, url_path);
  }
  if (section->kind == "filter-app") {
    IMAGECACHE_CHECK(note(*section));
    IMAGECACHE_TRY(const auto next, file_.value(*section, "next"));
    if (!next) {
      return fail(Errc::invalid_argument,
                  fmt::format("{}: {} has no line 'next = ...'", file_.where(section->line), section->header()));
    }
    return application(*next, url_path);
  }
  IMAGECACHE_TRY(const auto use, file_.value(*section, "use"));
  const bool is_other_section = use && (!is_uri(*use) || use->starts_with("config:"));
  if (is_other_section) return application(*use, url_path);
  if (section->kind.starts_with("composit")) return composite(*section, url_path);
  return note(*section);
}

Result<void> PasteWalk::pipeline(std::string_view names, std::string_view url_path) {
  const auto all = words(names);
  if (all.empty()) return fail(Errc::invalid_argument, fmt::format("{}: a pipeline is empty", file_.path));
  for (std::size_t i = 0; i + 1 < all.size(); ++i) IMAGECACHE_CHECK(filter(all[i]));
  return application(all.back(), url_path);
}

Result<void> PasteWalk::composite(const PasteSection& section, std::string_view url_path) {
  IMAGECACHE_TRY(const auto made_by, factory(section));
  if (made_by.ends_with(":pipeline_factory")) {
    IMAGECACHE_TRY(const auto names, file_.value(section, flavor_.empty() ? "default" : flavor_));
    if (names) return pipeline(*names, url_path);
    return fail(Errc::not_found, fmt::format("{}: {} has no line '{} = ...'", file_.where(section.line),
                                             section.header(), flavor_.empty() ? "default" : flavor_));
  }
  // A map of paths: the longest that fits is taken, and the application sees the rest of the path.
  const PasteEntry* best = nullptr;
  std::size_t most = 0;
  for (const auto& entry : section.entries) {
    const auto length = matches(entry.key, url_path);
    if (!length || (best != nullptr && *length <= most)) continue;
    best = &entry;
    most = *length;
  }
  if (best == nullptr) return {};  // the path is not served
  IMAGECACHE_TRY(const auto name, file_.value(section, best->key));
  return application(name.value_or(std::string()), url_path.substr(most));
}

Result<void> PasteWalk::filter(std::string_view name) {
  IMAGECACHE_CHECK(go_down(name));
  if (is_uri(name)) return elsewhere(name, {}, true);
  IMAGECACHE_TRY(const auto* section, file_.find_filter(name));
  if (section == nullptr) {
    return fail(Errc::not_found,
                fmt::format("{}: a pipeline names {}, but there is no [filter:{}]", file_.path, name, name));
  }
  IMAGECACHE_TRY(const auto around, file_.value(*section, "filter-with"));
  if (around) IMAGECACHE_CHECK(filter(*around));
  IMAGECACHE_TRY(const auto use, file_.value(*section, "use"));
  if (use && (!is_uri(*use) || use->starts_with("config:"))) return filter(*use);
  return note(*section);
}

Result<void> PasteWalk::elsewhere(std::string_view uri, std::string_view url_path, bool is_filter) {
  if (!uri.starts_with("config:")) {
    seen_.insert(filter_of_factory(uri));
    return {};
  }
  const auto hash = uri.find('#');
  const auto name = hash == std::string_view::npos ? std::string_view("main") : uri.substr(hash + 1);
  const auto path = std::filesystem::path(file_.path).parent_path() / uri.substr(7, hash - 7);
  steps_ += most_steps / most_files;  // so that files that name each other end too
  IMAGECACHE_CHECK(go_down(uri));
  IMAGECACHE_TRY(const auto text, base::read_small_file(path));
  IMAGECACHE_TRY(const auto other, parse_paste(text, path.native()));
  PasteWalk walk(other, flavor_);
  walk.steps_ = steps_;
  IMAGECACHE_CHECK(is_filter ? walk.filter(name) : walk.application(name, url_path));
  steps_ = walk.steps_;
  seen_.merge(walk.seen_);
  return {};
}

std::vector<std::string> flavors_of(const PasteFile& file) {
  std::vector<std::string> flavors;
  for (const auto& section : file.sections) {
    const bool is_app = section.kind == "pipeline" || section.kind.starts_with("composit") ||
                        section.kind.starts_with("app") || section.kind == "filter-app";
    if (!is_app || !section.name.starts_with(application_name)) continue;
    const auto rest = std::string_view(section.name).substr(application_name.size());
    if (rest.empty() || rest.starts_with('-')) flavors.emplace_back(rest.empty() ? rest : rest.substr(1));
  }
  return flavors;
}

}  // namespace imagecache::config
