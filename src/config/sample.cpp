#include <fmt/format.h>

#include "config/config.hpp"

namespace imagecache::config {
namespace {

constexpr std::string_view head = R"(# cinder-image-cache: every option, its default and what it does.
#
# The service reads the cinder.conf and glance-api.conf that Cinder and Glance run with, unchanged, and one file more
# with what is its own:
#
#   cinder-image-cache serve --config-file /etc/cinder/cinder.conf --config-file /etc/glance/glance-api.conf \
#                            --config-file /etc/cinder-image-cache/cinder-image-cache.conf
#
# Later files win. Options of Cinder and Glance that are not named here are passed over. `cinder-image-cache config
# check` tells all mistakes at once, `config show` what counts and from which line it comes.
#
# A complete file, without Cinder or Glance: images from a directory, volumes as files.
#
#   [DEFAULT]
#   auth_strategy = noauth
#   image_cache_dir = /var/lib/cinder-image-cache/images
#   enabled_backends = file1
#   cinder_internal_tenant_project_id = 9d1ab1f6b4a34a6ca3c1b7f6d3f7e001
#   cinder_internal_tenant_user_id = 9d1ab1f6b4a34a6ca3c1b7f6d3f7e002
#
#   [image_cache_service]
#   origin = file:///srv/images
#
#   [backend_defaults]
#   image_volume_cache_enabled = true
#   image_volume_cache_max_size_gb = 200
#
#   [file1]
#   volume_driver = file
#   volume_backend_name = fast
#   file_volume_dir = /srv/volumes
)";

constexpr std::string_view backend_head = R"(
# Each backend that enabled_backends names has a section of its own. An option is looked for there, then in
# [backend_defaults], then its default counts; [DEFAULT] is not looked into.
[backend_defaults]
)";

// Wraps at 118 columns behind "# ".
std::string comment(std::string_view text) {
  constexpr std::size_t width = 118;
  std::string lines;
  std::size_t column = 0;
  while (!text.empty()) {
    const auto word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    if (column != 0 && column + 1 + word.size() > width) {
      lines += '\n';
      column = 0;
    }
    lines += column == 0 ? "# " : " ";
    lines += word;
    column += word.size() + 1;
  }
  return lines + '\n';
}

std::string type_line(const Option& option) {
  auto text = describe_allowed(option);
  if (!option.unit.empty()) text += fmt::format("; in {}", option.unit);
  return comment("(" + text + ")");
}

std::string entry(const Option& option) {
  return fmt::format("\n{}{}#{} = {}\n", comment(option.help), type_line(option), option.name,
                     option.default_text.value_or("<None>"));
}

}  // namespace

std::string sample() {
  std::string text(head);
  std::string_view section;
  for (const auto& option : options()) {
    if (option.section != section) {
      section = option.section;
      text += section == backend_scope ? std::string(backend_head) : fmt::format("\n[{}]\n", section);
    }
    text += entry(option);
  }
  return text;
}

}  // namespace imagecache::config
