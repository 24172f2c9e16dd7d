// The rule language held against the real oslo.policy's answers.
#include <gtest/gtest.h>

#include <array>
#include <nlohmann/json.hpp>

#include "identity/policy.hpp"
#include "policy_oracle_table.hpp"

namespace imagecache::identity {
namespace {

nlohmann::json named() {
  return {{"admin_role", "role:admin"},
          {"owner", "project_id:%(owner)s"},
          {"admin_or_owner", "rule:admin_role or rule:owner"},
          {"deny", "!"},
          {"all", ""},
          {"broken", "role:admin or"},
          {"uncolon", "foo"},
          {"nested", "not (rule:owner or rule:deny)"},
          {"loop", "rule:pool"},
          {"pool", "rule:loop"},
          {"safe_loop", "@ or rule:safe_loop"},
          {"not_loop", "not rule:not_loop"},
          {"CASE", "role:CASE"},
          {"str", "'x'"}};
}

std::array<base::RequestContext, 3> callers() {
  base::RequestContext admin;
  admin.user_id = "u1";
  admin.project_id = "p1";
  admin.user_domain_id = "d1";
  admin.project_domain_id = "d2";
  admin.roles = {"admin", "member"};
  admin.is_admin = true;
  base::RequestContext member = admin;
  member.user_id = "u2";
  member.project_id = "p2";
  member.roles = {"member", "reader"};
  member.is_admin = false;
  base::RequestContext system;
  system.user_id = "u3";
  system.user_domain_id = "d1";
  system.system_scope = "all";
  system.roles = {"reader"};
  return {admin, member, system};
}

class PolicyOracle : public testing::TestWithParam<OracleRow> {};

TEST_P(PolicyOracle, AnswersAsOsloPolicyDoesAndDeniesWhereItRaises) {
  auto rules = named();
  rules["x"] = GetParam().rule;
  const auto policy = Policy::parse(rules.dump(), "policy.json", {}, {});
  ASSERT_TRUE(policy) << policy.error().message;
  const PolicyTarget image = {{"owner", "p2"},  {"visibility", "public"}, {"user_id", "u1"}, {"role", "Member"},
                              {"empty", ""},    {"truth", "True"},        {"one", "1"},      {"half", "0.5"},
                              {"dom.id", "d2"}, {"none", "None"}};
  std::string answers;
  for (const auto& caller : callers()) {
    for (const auto& target : {image, PolicyTarget{}}) answers += policy->allows("x", caller, target) ? 'y' : 'n';
  }
  std::string expected = GetParam().answers;
  for (char& answer : expected) answer = answer == 'y' ? 'y' : 'n';
  EXPECT_EQ(answers, expected) << "rule: " << GetParam().rule;
}

INSTANTIATE_TEST_SUITE_P(Rules, PolicyOracle, testing::ValuesIn(oracle_rows));

// Python reads these as numbers and would allow them; nobody writes them, so they deny and are named.
TEST(PolicyLiterals, NumbersOtherThanPlainDecimalsDeny) {
  for (const std::string rule : {"0x1:1", "1_000:1000", "1e3:1000.0"}) {
    const auto policy = Policy::parse("x: '" + rule + "'", "policy.yaml", {}, {});
    ASSERT_TRUE(policy);
    EXPECT_FALSE(policy->allows("x", callers()[0])) << rule;
    EXPECT_EQ(policy->warnings().size(), 1U) << rule;
  }
}

}  // namespace
}  // namespace imagecache::identity
