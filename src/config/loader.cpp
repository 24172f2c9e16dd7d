#include "config/loader.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "base/text.hpp"
#include "base/try.hpp"
#include "config/ini.hpp"

namespace imagecache::config {
namespace {

constexpr unsigned most_substitutions = 16;
constexpr std::string_view backend_defaults = "backend_defaults";

// A value in a message: one line, not too long, never a secret.
std::string show(const Option& option, std::string_view value) {
  constexpr std::size_t longest = 80;
  if (option.secret) return "****";
  std::string shown(value.substr(0, longest));
  std::ranges::replace(shown, '\n', ' ');
  return shown.size() < value.size() ? shown + "…" : shown;
}

}  // namespace

Result<Config> load(const LoadRequest& request) {
  return Loader().load(request);
}

Result<Config> Loader::load(const LoadRequest& request) {
  config_.sources_ = request.sources;
  files_ = Files::read(request.sources, problems_);
  add_environment(request.environment);
  refuse_unknown_options();
  load_section("DEFAULT");
  for (const auto& option : options()) {
    if (option.section != backend_scope && !config_.sections_.contains(option.section)) load_section(option.section);
  }
  load_backends();
  check_addresses();
  check_tls();
  check_image_cache();
  check_image_volumes();
  check_templates();
  check_origin();
  check_backends();
  if (!problems_.empty()) return fail(Errc::invalid_argument, fmt::format("{}", fmt::join(problems_, "\n")));
  return std::move(config_);
}

void Loader::add_environment(const std::map<std::string, std::string>& environment) {
  for (const auto& [name, value] : environment) {
    if (!name.starts_with("OS_")) continue;
    const auto separator = name.find("__");
    if (separator == std::string::npos) continue;
    const auto section = normalize_section(std::string_view(name).substr(3, separator - 3));
    files_.add(section, base::to_lower(name.substr(separator + 2)), {value, "environment " + name});
  }
}

void Loader::refuse_unknown_options() {
  for (const auto& [name, occurrences] : files_.keys(own_section)) {
    if (find_option(own_section, name) != nullptr) continue;
    const auto near = near_matches(own_section, name);
    auto hint = near.empty() ? std::string() : fmt::format("; did you mean {}?", fmt::join(near, " or "));
    if (find_option("DEFAULT", name) != nullptr) hint = "; it belongs into [DEFAULT]";
    if (find_option(backend_scope, name) != nullptr) hint = "; it belongs into a backend's section";
    problems_.push_back(
        fmt::format("{}: [{}] {}: there is no such option{}", occurrences.back().where, own_section, name, hint));
  }
}

void Loader::load_section(std::string_view section) {
  Settings settings{std::string(section)};
  for (const auto& option : options()) {
    if (option.section == section) settings.put(resolve(credentials_section(section, option), option));
  }
  config_.sections_.insert_or_assign(std::string(section), std::move(settings));
}

void Loader::load_backends() {
  std::vector<std::string> names;
  for (const auto& name : config_.get_list("DEFAULT", "enabled_backends")) {
    if (name.empty() || is_backend(normalize_section(name))) continue;
    backend_names_.push_back(normalize_section(name));
    names.push_back(name);
  }
  for (const auto& name : names) config_.backends_.push_back(load_backend(name));
}

BackendSection Loader::load_backend(const std::string& name) {
  const auto section = normalize_section(name);
  Settings settings(name);
  for (const auto& option : options()) {
    if (option.section == backend_scope) settings.put(resolve(section, option));
  }
  std::map<std::string, std::string, std::less<>> raw;
  for (const auto from : {std::string_view(section), backend_defaults}) {
    for (const auto& [key, occurrences] : files_.keys(from)) {
      const auto& text = occurrences.back().value;
      raw.try_emplace(key, expand(section, text, 0).value_or(text));
    }
  }
  // Cinder's drivers take these from [DEFAULT], whatever the section says.
  for (const auto option : {"state_path", "volume_name_template"}) {
    raw.insert_or_assign(option, config_.get_string("DEFAULT", option));
  }
  return {std::move(settings), std::move(raw)};
}

bool Loader::is_backend(std::string_view section) const {
  return std::ranges::find(backend_names_, section) != backend_names_.end();
}

const Occurrence* Loader::effective_raw(std::string_view section, std::string_view name) const {
  const auto& found = files_.occurrences(section, name);
  if (!found.empty()) return &found.back();
  return is_backend(section) ? effective_raw(backend_defaults, name) : nullptr;
}

const Occurrence* Loader::effective(std::string_view section, const Option& option) const {
  for (const auto name : {option.name, option.old_name}) {
    if (name.empty()) continue;
    if (option.is_somebody_elses == nullptr) {
      if (const auto* found = effective_raw(section, name)) return found;
      continue;
    }
    const auto& all = files_.occurrences(section, name);
    const auto last = std::find_if(all.rbegin(), all.rend(),
                                   [&](const Occurrence& one) { return !option.is_somebody_elses(one.value); });
    if (last != all.rend()) return &*last;
  }
  return nullptr;
}

std::string Loader::credentials_section(std::string_view section, const Option& option) const {
  static constexpr std::array<std::string_view, 14> credentials = {"auth_type",
                                                                   "auth_url",
                                                                   "username",
                                                                   "user_id",
                                                                   "password",
                                                                   "user_domain_name",
                                                                   "user_domain_id",
                                                                   "project_name",
                                                                   "project_id",
                                                                   "project_domain_name",
                                                                   "project_domain_id",
                                                                   "system_scope",
                                                                   "application_credential_id",
                                                                   "application_credential_secret"};
  const bool has_credentials = section == authtoken_section || section == service_user_section;
  if (has_credentials && std::ranges::find(credentials, option.name) != credentials.end()) {
    const auto* other = effective_raw(section, "auth_section");
    if (other != nullptr && !other->value.empty()) return normalize_section(other->value);
  }
  return std::string(section);
}

Setting Loader::resolve(std::string_view section, const Option& option) {
  if (option.type == Type::multi) return resolve_multi(section, option);
  const auto* found = effective(section, option);
  // An empty number or path in a file is as if it were not there.
  for (const bool from_file : {true, false}) {
    if (from_file && found == nullptr) continue;
    if (!from_file && !option.default_text) continue;
    const std::string text = from_file ? found->value : std::string(*option.default_text);
    const auto where = from_file ? found->where : std::string("default");
    auto expanded = expand(section, text, 0);
    auto value = expanded ? parse_value(option, *expanded) : std::unexpected(expanded.error());
    if (!value) {
      // A default that says $other fails where `other` was refused already, or names its own place.
      // What it says may quote a part of the value.
      const auto what = option.secret && !expanded ? "has a $ before a name that is not set; a dollar is written $$"
                                                   : value.error().message;
      problems_.push_back(fmt::format("{}: [{}] {} = {}: {}", where, section, option.name,
                                      show(option, expanded ? *expanded : text), what));
      return {&option, std::nullopt, from_file, where};
    }
    if (*value) return {&option, std::move(*value), from_file, where};
  }
  return {&option, std::nullopt, false, "default"};
}

Setting Loader::resolve_multi(std::string_view section, const Option& option) {
  const auto& all = files_.occurrences(section, option.name);
  std::vector<Occurrence> counting(all.begin(), all.end());
  if (counting.empty() && option.default_text) counting = {{std::string(*option.default_text), "default"}};
  // The environment, which stands behind the files, goes before all that they say.
  if (!counting.empty() && counting.back().where.starts_with("environment ")) counting = {counting.back()};
  if (counting.empty()) return {&option, std::nullopt, false, "default"};
  std::vector<std::string> values;
  for (const auto& [text, where] : counting) {
    auto expanded = expand(section, text, 0);
    if (!expanded) {
      problems_.push_back(fmt::format("{}: [{}] {} = {}: {}", where, section, option.name, show(option, text),
                                      expanded.error().message));
    } else if (!expanded->empty()) {
      values.push_back(*std::move(expanded));
    }
  }
  return {&option, std::move(values), !all.empty(), counting.back().where};
}

Result<std::string> Loader::expand(std::string_view section, std::string_view text, unsigned depth) const {
  if (depth > most_substitutions) return fail(Errc::conflict, "refers to itself");
  return substitute(text, [&](std::string_view name) { return look_up(section, name, depth + 1); });
}

Result<std::optional<std::string>> Loader::look_up(std::string_view section, std::string_view name,
                                                   unsigned depth) const {
  std::vector<std::pair<std::string, std::string>> places;
  if (const auto dot = name.find('.'); dot != std::string_view::npos) {
    places.emplace_back(normalize_section(name.substr(0, dot)), name.substr(dot + 1));
  } else {
    places.emplace_back(section, name);
  }
  places.emplace_back("DEFAULT", name);
  for (const auto& [group, option_name] : places) {
    const auto* option = find_option(is_backend(group) ? backend_scope : std::string_view(group), option_name);
    const auto* found = option != nullptr ? effective(group, *option) : effective_raw(group, option_name);
    if (found == nullptr && (option == nullptr || !option->default_text)) continue;
    IMAGECACHE_TRY(auto value,
                   expand(group, found != nullptr ? std::string_view(found->value) : *option->default_text, depth));
    return std::optional(std::move(value));
  }
  return std::optional<std::string>();
}

}  // namespace imagecache::config
