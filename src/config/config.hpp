// The room `config`: the operator's files become one immutable Config, or one Error with every mistake in it.
//
// It exists because an operator hands us the cinder.conf and glance-api.conf that Cinder and Glance already run with,
// and every word in them must mean to us what it means to them: oslo.config's grammar, order of files, $substitution,
// and Cinder's rule that a backend's option comes from its section, else from [backend_defaults], else from its coded
// default, and never from [DEFAULT]. `app` calls it once, before threads start, and hands each room its own struct; the
// command line reads addresses from it. Always true: a Config that exists has been checked as a whole, values of
// options that are not ours are never looked at, and a secret is never in a message.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/files.hpp"
#include "config/settings.hpp"
#include "imagecache/driver.hpp"
#include "imagecache/error.hpp"

namespace imagecache::config {

struct LoadRequest {
  std::vector<ConfigSource> sources;               ///< later ones win
  std::map<std::string, std::string> environment;  ///< OS_<SECTION>__<OPTION>, which win over files
};

/// This process's environment variables of that form.
std::map<std::string, std::string> config_environment();

/// One section that enabled_backends names. Copyable; stands for itself.
class BackendSection final : public BackendOptions, public Settings {
 public:
  /// Of the table's options for backends: [section], else [backend_defaults], else the coded default.
  BackendSection(Settings settings, std::map<std::string, std::string, std::less<>> raw)
      : Settings(std::move(settings)), raw_(std::move(raw)) {}

  std::string section() const override { return Settings::section(); }
  /// Of any option, in the table or not: the text in [section], else in [backend_defaults], else nullopt; $substituted
  /// (a name that nobody knows is left as it is written). No coded defaults: a driver has its own.
  std::optional<std::string> get(std::string_view option) const override;
  /// The option of that name, else the section's name.
  std::string volume_backend_name() const;

 private:
  std::map<std::string, std::string, std::less<>> raw_;
};

/// One line of `config show`.
struct ShownOption {
  std::string section;
  std::string option;
  std::string value;   ///< "****" for a secret, "" if neither set nor defaulted
  std::string source;  ///< "file:line", "environment OS_…" or "default"
};

struct PolicyFiles {
  std::string file;               ///< absolute; empty: there is none and none was named
  bool must_exist = false;        ///< an operator has named it
  std::vector<std::string> dirs;  ///< those that are there
};

/// `section` is one of the table's sections but backend_scope in all getters; see Settings for what they promise.
class Config {
 public:
  const Settings& section(std::string_view name) const;

  bool is_set(std::string_view section_name, std::string_view option) const {
    return section(section_name).is_set(option);
  }
  bool get_bool(std::string_view section_name, std::string_view option) const {
    return section(section_name).get_bool(option);
  }
  std::int64_t get_int(std::string_view section_name, std::string_view option) const {
    return section(section_name).get_int(option);
  }
  std::uint64_t get_unsigned(std::string_view section_name, std::string_view option) const {
    return section(section_name).get_unsigned(option);
  }
  std::chrono::seconds get_seconds(std::string_view section_name, std::string_view option) const {
    return section(section_name).get_seconds(option);
  }
  std::string get_string(std::string_view section_name, std::string_view option) const {
    return section(section_name).get_string(option);
  }
  std::vector<std::string> get_list(std::string_view section_name, std::string_view option) const {
    return section(section_name).get_list(option);
  }
  BindAddress get_bind_address(std::string_view section_name, std::string_view option) const {
    return section(section_name).get_bind_address(option);
  }
  std::optional<std::int64_t> find_int(std::string_view section_name, std::string_view option) const {
    return section(section_name).find_int(option);
  }
  std::optional<std::string> find_string(std::string_view section_name, std::string_view option) const {
    return section(section_name).find_string(option);
  }

  /// In the order of enabled_backends, each once.
  const std::vector<BackendSection>& enabled_backends() const { return backends_; }

  /// [image_cache_service] origin, else glance_api_servers with "http://" put before what has no scheme; empty if
  /// neither is set. All start with http:// or https://, or there is exactly one that starts with file:///.
  std::vector<std::string> origins() const;
  /// Where to log, by the order that [image_cache_service] log_file's help states; empty: standard error.
  std::string log_file() const;

  /// The --config-file and --config-dir that it was loaded from, in their order.
  const std::vector<ConfigSource>& sources() const { return sources_; }
  /// As oslo.config's find_file(): a file of that name in a --config-dir, else beside a --config-file, the last first.
  /// An absolute name is looked for as it is. Blocks.
  std::optional<std::filesystem::path> find_file(std::string_view name) const;
  /// [oslo_policy]'s files, as oslo.policy finds them: policy_file beside the file that names it, else by find_file().
  /// Blocks.
  PolicyFiles policy_files() const;

  /// What works, but hardly as it was meant: one line each, for the log and `config check`.
  const std::vector<std::string>& warnings() const { return warnings_; }
  /// Every option of the table in its order, the backends' at the end.
  std::vector<ShownOption> show() const;

 private:
  friend class Loader;
  std::map<std::string, Settings, std::less<>> sections_;
  std::vector<BackendSection> backends_;
  std::vector<ConfigSource> sources_;
  std::vector<std::string> warnings_;
};

/// Blocks on the files. Errc::invalid_argument: `message` holds all problems, one a line, each with file, line,
/// section, option and what is allowed.
Result<Config> load(const LoadRequest& request);

/// The text of cinder.conf.sample, made from the table.
std::string sample();

}  // namespace imagecache::config
