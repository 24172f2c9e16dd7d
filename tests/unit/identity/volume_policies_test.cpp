// Cinder's rules with Cinder's defaults, and an operator's file over them.
#include <gtest/gtest.h>

#include "identity/policy.hpp"

namespace imagecache::identity {
namespace {

Policy policy(const std::string& file = "{}", bool enforce_new_defaults = false) {
  auto parsed = Policy::parse(file, "policy.yaml", {}, volume_policies(enforce_new_defaults));
  EXPECT_TRUE(parsed) << parsed.error().message;
  EXPECT_TRUE(parsed->warnings().empty());
  return std::move(*parsed);
}
base::RequestContext who(const std::string& role, const std::string& project = "p") {
  base::RequestContext context;
  context.project_id = project;
  context.user_id = "u";
  context.roles = {role};
  context.is_admin = role == "admin";
  return context;
}
const PolicyTarget of_p{{"project_id", "p"}, {"user_id", "u"}};

TEST(VolumePolicies, AProjectsMembersDoAndItsReadersLook) {
  const Policy rules = policy();
  EXPECT_TRUE(rules.allows("volume:create", who("member"), of_p));
  EXPECT_TRUE(rules.allows("volume:create_from_image", who("member"), of_p));
  EXPECT_TRUE(rules.allows("volume:get_all", who("reader"), of_p));
  // The older rule beside the newer, as Cinder still has it: whoever is in the project, or anybody.
  EXPECT_TRUE(rules.allows("volume:delete", who("reader"), of_p));
  EXPECT_TRUE(rules.allows("message:get", who("somebody"), of_p));
  EXPECT_TRUE(rules.allows("volume:create", who("somebody"), of_p));
  EXPECT_TRUE(rules.allows("volume:create_from_image", who("somebody"), of_p));
  EXPECT_TRUE(rules.allows("volume_extension:type_get_all", who("somebody"), of_p));
}

TEST(VolumePolicies, WithTheNewDefaultsEnforcedAReaderOnlyLooks) {
  const Policy rules = policy("{}", true);
  for (const char* rule : {"volume:create", "volume:create_from_image", "volume:delete", "volume:extend",
                           "volume:retype", "volume_extension:volume_actions:attach", "message:delete"}) {
    EXPECT_FALSE(rules.allows(rule, who("reader"), of_p)) << rule;
    EXPECT_TRUE(rules.allows(rule, who("member"), of_p)) << rule;
    EXPECT_TRUE(rules.allows(rule, who("admin", "q"), of_p)) << rule;
  }
  for (const char* rule : {"volume:get", "volume_extension:type_get_all", "message:get"}) {
    EXPECT_TRUE(rules.allows(rule, who("reader"), of_p)) << rule;
    EXPECT_FALSE(rules.allows(rule, who("somebody"), of_p)) << rule;
  }
}

TEST(VolumePolicies, OfAnotherProjectOnlyAnAdministratorMay) {
  const Policy rules = policy();
  for (const char* rule : {"volume:get", "volume:delete", "volume:extend", "volume_extension:quotas:show",
                           "volume_extension:volume_actions:attach"}) {
    EXPECT_FALSE(rules.allows(rule, who("member", "q"), of_p)) << rule;
    EXPECT_TRUE(rules.allows(rule, who("admin", "q"), of_p)) << rule;
  }
}

TEST(VolumePolicies, TheCloudIsAnAdministratorsAndNoMembers) {
  const Policy rules = policy();
  for (const char* rule :
       {"volume_extension:services:update", "volume_extension:hosts", "volume_extension:type_create",
        "volume_extension:quotas:update", "volume_extension:quota_classes:get", "volume_extension:capabilities",
        "scheduler_extension:scheduler_stats:get_pools", "volume_extension:volume_admin_actions:force_delete",
        "volume_extension:volume_actions:upload_public", "volume_extension:volume_type_access:addProjectAccess"}) {
    EXPECT_FALSE(rules.allows(rule, who("member"), of_p)) << rule;
    EXPECT_TRUE(rules.allows(rule, who("admin"), of_p)) << rule;
  }
}

TEST(VolumePolicies, AnOperatorsFileIsOverThem) {
  const Policy rules = policy("\"volume_extension:type_create\": \"role:operator\"\n\"volume:create\": \"!\"\n");
  EXPECT_TRUE(rules.allows("volume_extension:type_create", who("operator"), of_p));
  EXPECT_FALSE(rules.allows("volume_extension:type_create", who("admin"), of_p));
  EXPECT_FALSE(rules.allows("volume:create", who("admin"), of_p));
  EXPECT_TRUE(rules.allows("volume:create_from_image", who("member"), of_p));
}

}  // namespace
}  // namespace imagecache::identity
