// Cinder's own rules (cinder.policies, Zed) of what is served here, with its defaults. Where Cinder still accepts an
// older rule beside the newer, oslo.policy joins them with "or" unless enforce_new_defaults is set.
#include <array>

#include "identity/policy.hpp"

namespace imagecache::identity {
namespace {

constexpr std::string_view admin = "rule:admin_api";
constexpr std::string_view member = "rule:xena_system_admin_or_project_member";
constexpr std::string_view reader = "rule:xena_system_admin_or_project_reader";

/// The defaults of today, or with the older ones beside them: whoever is in the project, or anybody.
constexpr auto rules(bool enforce_new_defaults) {
  const std::string_view reader_or_owner =
      enforce_new_defaults ? reader : "rule:xena_system_admin_or_project_reader or rule:admin_or_owner";
  const std::string_view member_or_owner =
      enforce_new_defaults ? member : "rule:xena_system_admin_or_project_member or rule:admin_or_owner";
  const std::string_view member_or_anybody = enforce_new_defaults ? member : "@";
  const std::string_view reader_or_anybody = enforce_new_defaults ? reader : "@";
  return std::to_array<PolicyDefault>({
      {.name = "admin_or_owner",
       .check = "is_admin:True or (role:admin and is_admin_project:True) or project_id:%(project_id)s"},
      {.name = "admin_api", .check = "is_admin:True or (role:admin and is_admin_project:True)"},
      {.name = "xena_system_admin_or_project_reader",
       .check = "is_admin:True or (role:admin) or (role:reader and project_id:%(project_id)s)"},
      {.name = "xena_system_admin_or_project_member",
       .check = "is_admin:True or (role:admin) or (role:member and project_id:%(project_id)s)"},

      {.name = "volume:create", .check = member_or_anybody},
      {.name = "volume:create_from_image", .check = member_or_anybody},
      {.name = "volume:get", .check = reader_or_owner},
      {.name = "volume:get_all", .check = reader_or_owner},
      {.name = "volume:update", .check = member_or_owner},
      {.name = "volume:delete", .check = member_or_owner},
      {.name = "volume:extend", .check = member_or_owner},
      {.name = "volume:retype", .check = member_or_owner},
      {.name = "volume:update_readonly_flag", .check = member_or_owner},
      {.name = "volume:get_volume_metadata", .check = reader_or_owner},
      {.name = "volume:create_volume_metadata", .check = member_or_owner},
      {.name = "volume:update_volume_metadata", .check = member_or_owner},
      {.name = "volume:delete_volume_metadata", .check = member_or_owner},
      {.name = "volume_extension:volume_encryption_metadata", .check = reader_or_owner},
      {.name = "volume_extension:volume_image_metadata:show", .check = reader_or_owner},
      {.name = "volume_extension:volume_image_metadata:set", .check = member_or_owner},
      {.name = "volume_extension:volume_image_metadata:remove", .check = member_or_owner},

      {.name = "volume_extension:volume_actions:reserve", .check = member_or_owner},
      {.name = "volume_extension:volume_actions:unreserve", .check = member_or_owner},
      {.name = "volume_extension:volume_actions:attach", .check = member_or_owner},
      {.name = "volume_extension:volume_actions:detach", .check = member_or_owner},
      {.name = "volume_extension:volume_actions:begin_detaching", .check = member_or_owner},
      {.name = "volume_extension:volume_actions:roll_detaching", .check = member_or_owner},
      {.name = "volume_extension:volume_actions:initialize_connection", .check = member_or_owner},
      {.name = "volume_extension:volume_actions:terminate_connection", .check = member_or_owner},
      {.name = "volume_extension:volume_actions:upload_image", .check = member_or_owner},
      {.name = "volume_extension:volume_actions:upload_public", .check = admin},
      {.name = "volume_extension:volume_admin_actions:reset_status", .check = admin},
      {.name = "volume_extension:volume_admin_actions:force_delete", .check = admin},
      {.name = "volume_extension:volume_admin_actions:force_detach", .check = admin},

      {.name = "volume_extension:type_create", .check = admin},
      {.name = "volume_extension:type_update", .check = admin},
      {.name = "volume_extension:type_delete", .check = admin},
      {.name = "volume_extension:type_get", .check = reader_or_anybody},
      {.name = "volume_extension:type_get_all", .check = reader_or_anybody},
      {.name = "volume_extension:volume_type_encryption:create", .check = admin},
      {.name = "volume_extension:volume_type_encryption:get", .check = admin},
      {.name = "volume_extension:volume_type_encryption:update", .check = admin},
      {.name = "volume_extension:volume_type_encryption:delete", .check = admin},
      {.name = "volume_extension:volume_type_access:addProjectAccess", .check = admin},
      {.name = "volume_extension:volume_type_access:removeProjectAccess", .check = admin},
      {.name = "volume_extension:volume_type_access:get_all_for_type", .check = admin},
      {.name = "volume_extension:types_extra_specs:index", .check = reader_or_anybody},
      {.name = "volume_extension:types_extra_specs:show", .check = reader_or_anybody},
      {.name = "volume_extension:types_extra_specs:create", .check = admin},
      {.name = "volume_extension:types_extra_specs:update", .check = admin},
      {.name = "volume_extension:types_extra_specs:delete", .check = admin},

      {.name = "volume_extension:quotas:show", .check = reader_or_owner},
      {.name = "volume_extension:quotas:update", .check = admin},
      {.name = "volume_extension:quotas:delete", .check = admin},
      {.name = "volume_extension:quota_classes:get", .check = admin},
      {.name = "volume_extension:quota_classes:update", .check = admin},
      {.name = "limits_extension:used_limits", .check = reader_or_owner},

      {.name = "volume_extension:services:index", .check = admin},
      {.name = "volume_extension:services:update", .check = admin},
      {.name = "volume:freeze_host", .check = admin},
      {.name = "volume:thaw_host", .check = admin},
      {.name = "volume_extension:hosts", .check = admin},
      {.name = "volume_extension:capabilities", .check = admin},
      {.name = "scheduler_extension:scheduler_stats:get_pools", .check = admin},
      {.name = "message:get_all", .check = reader_or_owner},
      {.name = "message:get", .check = reader_or_owner},
      {.name = "message:delete", .check = member_or_owner},
  });
}

}  // namespace

std::span<const PolicyDefault> volume_policies(bool enforce_new_defaults) {
  static constexpr auto new_defaults = rules(true);
  static constexpr auto old_defaults = rules(false);
  return enforce_new_defaults ? std::span<const PolicyDefault>(new_defaults) : old_defaults;
}

}  // namespace imagecache::identity
