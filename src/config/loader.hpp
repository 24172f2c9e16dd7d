// How files become a Config. Private to the room.
#pragma once

#include "config/config.hpp"

namespace imagecache::config {

class Loader {
 public:
  Result<Config> load(const LoadRequest& request);

 private:
  void add_environment(const std::map<std::string, std::string>& environment);
  void load_section(std::string_view section);
  void load_backends();
  BackendSection load_backend(const std::string& name);
  void refuse_unknown_options();

  /// The occurrence that counts, or nullptr. `section` as in the files; a backend's with [backend_defaults] behind it.
  const Occurrence* effective(std::string_view section, const Option& option) const;
  const Occurrence* effective_raw(std::string_view section, std::string_view name) const;
  bool is_backend(std::string_view section) const;
  /// `section`, or the one that its auth_section names if the option is a credential.
  std::string credentials_section(std::string_view section, const Option& option) const;
  Setting resolve(std::string_view section, const Option& option);
  Setting resolve_multi(std::string_view section, const Option& option);
  Result<std::string> expand(std::string_view section, std::string_view text, unsigned depth) const;
  Result<std::optional<std::string>> look_up(std::string_view section, std::string_view name, unsigned depth) const;

  // checks.cpp: what no single option shows.
  void check_addresses();
  void check_tls();
  void check_image_cache();
  void check_image_volumes();
  void check_templates();
  void check_origin();
  void check_backends();
  void complain(const Settings& settings, std::string_view option, std::string_view what);

  Files files_;
  Problems problems_;
  Config config_;
  std::vector<std::string> backend_names_;  // normalized
};

}  // namespace imagecache::config
