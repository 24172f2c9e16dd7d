#include "config/config.hpp"

#include <unistd.h>

#include <filesystem>
#include <stdexcept>
#include <system_error>

namespace imagecache::config {
namespace {

constexpr std::string_view log_name = "cinder-image-cache.log";

bool is_there(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

void show_setting(std::vector<ShownOption>& rows, const std::string& section, const Setting& setting) {
  std::string value = setting.value ? format_value(*setting.value) : std::string();
  if (setting.option->secret && setting.is_set && setting.value) value = "****";
  rows.push_back({section, std::string(setting.option->name), std::move(value), setting.where});
}

}  // namespace

std::optional<std::string> BackendSection::get(std::string_view option) const {
  const auto found = raw_.find(option);
  return found == raw_.end() ? std::nullopt : std::optional(found->second);
}

std::string BackendSection::volume_backend_name() const {
  auto name = get_string("volume_backend_name");
  return name.empty() ? section() : name;
}

const Settings& Config::section(std::string_view name) const {
  const auto found = sections_.find(name);
  if (found == sections_.end()) throw std::logic_error("bug: no options in section [" + std::string(name) + "]");
  return found->second;
}

std::vector<std::string> Config::origins() const {
  if (auto own = section(own_section).find_list("origin")) return *std::move(own);
  auto servers = get_list("DEFAULT", "glance_api_servers");
  for (auto& server : servers) {
    if (server.find("://") == std::string::npos) server.insert(0, "http://");
  }
  return servers;
}

std::string Config::log_file() const {
  const std::filesystem::path directory = get_string("DEFAULT", "log_dir");
  for (const auto name : {own_section, std::string_view("DEFAULT")}) {
    const auto file = get_string(name, "log_file");
    if (!file.empty()) return (directory / file).native();  // an absolute file drops the directory
  }
  return directory.empty() ? std::string() : (directory / log_name).native();
}

std::optional<std::filesystem::path> Config::find_file(std::string_view name) const {
  const std::filesystem::path wanted(name);
  if (wanted.is_absolute()) return is_there(wanted) ? std::optional(wanted) : std::nullopt;
  for (const auto& source : sources_) {
    if (source.kind != ConfigSource::Kind::directory) continue;
    if (auto path = source.path / wanted; is_there(path)) return std::filesystem::absolute(path);
  }
  for (auto source = sources_.rbegin(); source != sources_.rend(); ++source) {
    if (source->kind != ConfigSource::Kind::file) continue;
    if (auto path = source->path.parent_path() / wanted; is_there(path)) return std::filesystem::absolute(path);
  }
  return std::nullopt;
}

PolicyFiles Config::policy_files() const {
  const auto& policy = section("oslo_policy");
  const auto find = [&](const std::string& name, const std::string& named_in) -> std::optional<std::string> {
    const auto beside = std::filesystem::path(named_in).parent_path() / name;
    const bool in_a_file = !named_in.empty() && !named_in.starts_with("environment ");
    if (in_a_file && is_there(beside)) return std::filesystem::absolute(beside).native();
    // A policy of Cinder's that nobody has named is not one for the image cache.
    const auto found = find_file(name);
    const bool is_cinders = found && is_there(found->parent_path() / "cinder.conf") && named_in.empty();
    return found && !is_cinders ? std::optional(found->native()) : std::nullopt;
  };
  PolicyFiles files;
  files.must_exist = policy.is_set("policy_file");
  const auto name = policy.get_string("policy_file");
  files.file = find(name, files.must_exist ? policy.where("policy_file") : std::string())
                   .value_or(files.must_exist ? name : std::string());
  const auto named_in = policy.is_set("policy_dirs") ? policy.where("policy_dirs") : std::string();
  for (const auto& directory : policy.get_list("policy_dirs")) {
    if (auto path = find(directory, named_in)) files.dirs.push_back(*std::move(path));
  }
  return files;
}

std::vector<ShownOption> Config::show() const {
  std::vector<ShownOption> rows;
  for (const auto& option : options()) {
    const auto found = sections_.find(option.section);
    if (found == sections_.end()) continue;
    show_setting(rows, found->first, found->second.all().find(option.name)->second);
  }
  for (const auto& backend : backends_) {
    for (const auto& option : options()) {
      if (option.section != backend_scope) continue;
      show_setting(rows, backend.section(), backend.all().find(option.name)->second);
    }
  }
  return rows;
}

std::map<std::string, std::string> config_environment() {
  std::map<std::string, std::string> found;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const auto equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    const auto name = text.substr(0, equals);
    if (!name.starts_with("OS_") || name.find("__") == std::string_view::npos) continue;
    found.emplace(name, text.substr(equals + 1));
  }
  return found;
}

}  // namespace imagecache::config
