// The files a policy comes from, what is said of bad ones, and the defaults behind them.
#include "identity/policy.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "support/temp_dir.hpp"

namespace imagecache::identity {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

base::RequestContext with_roles(std::vector<std::string> roles) {
  base::RequestContext who;
  who.user_id = "u";
  who.project_id = "p";
  who.roles = std::move(roles);
  return who;
}

class PolicyFiles : public testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& content) const {
    std::ofstream(dir_ / name) << content;
    return (dir_ / name).native();
  }
  static Policy parse(std::string_view content, std::span<const PolicyDefault> defaults = {}) {
    auto policy = Policy::parse(content, "policy.yaml", {}, defaults);
    if (!policy) throw std::runtime_error(policy.error().message);
    return std::move(*policy);
  }
  static std::string mistake(std::string_view content) {
    const auto policy = Policy::parse(content, "policy.yaml", {}, {});
    if (policy) return "";
    EXPECT_EQ(policy.error().code, Errc::invalid_argument);
    return policy.error().message;
  }

  const test::TempDir dir_;
  const base::RequestContext admin_ = with_roles({"admin"});
  const base::RequestContext member_ = with_roles({"member"});
};

TEST_F(PolicyFiles, WithoutAFileTheDefaultsHold) {
  const auto policy = Policy::load({.policy_file = (dir_ / "policy.yaml").native()}, image_cache_policies());
  ASSERT_TRUE(policy);
  EXPECT_THAT(policy->warnings(), IsEmpty());
  for (const auto& [name, check, scope] : image_cache_policies()) {
    EXPECT_TRUE(policy->allows(name, admin_)) << name;
    EXPECT_FALSE(policy->allows(name, member_)) << name;
    EXPECT_FALSE(policy->set_by_operator(name));
  }
}

TEST_F(PolicyFiles, AFileThatTheOperatorNamedMustBeThere) {
  const auto policy = Policy::load({.policy_file = (dir_ / "mine.yaml").native(), .policy_file_must_exist = true}, {});
  ASSERT_FALSE(policy);
  EXPECT_THAT(policy.error().message, HasSubstr("mine.yaml: there is no such policy file"));
}

TEST_F(PolicyFiles, AYamlFileOverridesADefaultAndLeavesTheOthers) {
  const auto file = write("policy.yaml", "# mine\n\"cache_list\": \"role:member\"\ncache_image: role:member # too\n");
  const auto policy = Policy::load({.policy_file = file, .policy_file_must_exist = true}, image_cache_policies());
  ASSERT_TRUE(policy);
  EXPECT_TRUE(policy->allows("cache_list", member_));
  EXPECT_FALSE(policy->allows("cache_list", admin_));
  EXPECT_TRUE(policy->allows("cache_image", member_));
  EXPECT_FALSE(policy->allows("cache_delete", member_));
  EXPECT_TRUE(policy->set_by_operator("cache_list"));
}

TEST_F(PolicyFiles, JsonIsReadTabsAndAll) {
  write("policy.json",
        "{\n\t\"cache_list\":\"role:member\",\n\t\"cache_image\":\t[[\"role:member\", \"project_id:p\"], "
        "[\"role:x\"]]\n}\n");
  const auto policy = Policy::load({.policy_file = (dir_ / "policy.yaml").native()}, image_cache_policies());
  ASSERT_TRUE(policy) << policy.error().message;
  EXPECT_TRUE(policy->allows("cache_list", member_));
  EXPECT_TRUE(policy->allows("cache_image", member_));
  EXPECT_THAT(policy->warnings(), ElementsAre(HasSubstr("policy.json: read, as there is no")));
}

TEST_F(PolicyFiles, DirectoriesGoOverTheFileInTheOrderOfTheirNames) {
  const auto file = write("policy.yaml", "a: role:x\nb: role:x\nc: role:x\n");
  std::filesystem::create_directories(dir_ / "policy.d" / "not-read");
  write("policy.d/20.yaml", "a: role:member\n");
  write("policy.d/10.json", R"({"a": "role:admin", "b": "role:admin"})");
  write("policy.d/.hidden.yaml", "c: '@'\n");
  write("policy.d/not-read/x.yaml", "c: '@'\n");
  const auto policy = Policy::load(
      {.policy_file = file, .policy_dirs = {(dir_ / "policy.d").native(), (dir_ / "absent.d").native()}}, {});
  ASSERT_TRUE(policy) << policy.error().message;
  EXPECT_TRUE(policy->allows("a", member_));
  EXPECT_FALSE(policy->allows("a", admin_));
  EXPECT_TRUE(policy->allows("b", admin_));
  EXPECT_FALSE(policy->allows("c", admin_));
}

TEST_F(PolicyFiles, TheListOfListsIsOrOfAnd) {
  const auto policy = parse(
      "both: [[\"role:member\", \"project_id:p\"]]\n"
      "either: [[\"role:admin\"], [\"role:member\"]]\n"
      "bare: [\"role:admin\", \"role:member\"]\n"
      "everybody: []\n"
      "nobody: [[]]\n"
      "spaces: [[\"role:admin or role:member\"]]\n");
  EXPECT_TRUE(policy.allows("both", member_));
  EXPECT_FALSE(policy.allows("both", admin_));
  EXPECT_TRUE(policy.allows("either", admin_));
  EXPECT_TRUE(policy.allows("either", member_));
  EXPECT_TRUE(policy.allows("bare", member_));
  EXPECT_TRUE(policy.allows("everybody", with_roles({})));
  EXPECT_FALSE(policy.allows("nobody", admin_));
  EXPECT_FALSE(policy.allows("spaces", admin_));
}

TEST_F(PolicyFiles, AnUnknownRuleFallsToTheDefaultRuleAndElseDenies) {
  EXPECT_FALSE(parse("a: '@'\n").allows("b", admin_));
  const auto policy = parse("default: role:admin\nc: rule:nowhere\n");
  EXPECT_TRUE(policy.allows("b", admin_));
  EXPECT_FALSE(policy.allows("b", member_));
  EXPECT_TRUE(policy.allows("c", admin_));
  EXPECT_THAT(policy.warnings(), ElementsAre(HasSubstr("rules c call a rule that is not defined")));
}

TEST_F(PolicyFiles, OfTwoRulesOfOneNameTheLastCounts) {
  const auto policy = parse("a: '@'\na: '!'\n");
  EXPECT_FALSE(policy.allows("a", admin_));
}

TEST_F(PolicyFiles, AMistakeIsNamedWithFileAndLine) {
  EXPECT_THAT(mistake("a: role:x\nb: c: d\n"), HasSubstr("policy.yaml:2: "));
  EXPECT_THAT(mistake("a: role:x\n\nb: @\n"), HasSubstr("policy.yaml:3: "));
  EXPECT_THAT(mistake("a: role:x\nb: {c: d}\n"), HasSubstr("policy.yaml:2: rule 'b' is neither a string nor a list"));
  EXPECT_THAT(mistake("a: role:x\nb: 5\n"), HasSubstr("policy.yaml:2: rule 'b' is 5"));
  EXPECT_THAT(mistake("a: false\n"), HasSubstr("policy.yaml:1: rule 'a' is false"));
  EXPECT_THAT(mistake("a: [[[x]]]\n"), HasSubstr("policy.yaml:1: a check in a list"));
  EXPECT_THAT(mistake("- a\n- b\n"), HasSubstr("policy.yaml:1: a policy file is a mapping"));
  EXPECT_THAT(mistake("a: role:x\n---\nb: role:x\n"), HasSubstr("policy.yaml:2: a second document"));
  EXPECT_THAT(mistake(","), HasSubstr("policy.yaml:1: a second document, or no YAML"));
  EXPECT_THAT(mistake("{a: role:x}\n}\nb: role:y\n"), HasSubstr("policy.yaml:2: "));
  EXPECT_THAT(mistake("a: &x role:x\n<<: {b: c}\n"), HasSubstr("policy.yaml:2: merge keys"));
  EXPECT_THAT(mistake("a: !!binary aGk=\n"), HasSubstr("policy.yaml:1: rule 'a': the tag"));
  EXPECT_THAT(mistake("{\n\t\"a\": \"role:x\",\n\t\"b\": 7\n}\n"), HasSubstr("policy.yaml:3: rule 'b' is 7"));
  EXPECT_THAT(mistake(std::string("a: b\0", 5)), HasSubstr("zero byte"));
}

TEST_F(PolicyFiles, AnUnquotedExclamationMarkIsRefusedAsYamlWouldMakeItAllowEverybody) {
  EXPECT_THAT(mistake("a: !\n"), HasSubstr("policy.yaml:1: rule 'a': write \"!\" in quotes"));
  EXPECT_FALSE(parse("a: \"!\"\n").allows("a", admin_));
  EXPECT_TRUE(parse("a: \"\"\n").allows("a", member_));
  EXPECT_TRUE(parse("a: ''\n").allows("a", member_));
}

TEST_F(PolicyFiles, AFileThatWasCutShortInsideAQuoteIsRefused) {
  EXPECT_THAT(mistake("a: 'role:member and ro"), HasSubstr("its quote is not closed"));
  EXPECT_THAT(mistake("a: \"role:member"), HasSubstr("policy.yaml:1: "));
}

TEST_F(PolicyFiles, ARuleWithoutAValueAllowsEverybodyAsInOsloPolicyAndIsAWarning) {
  const auto policy = parse("a:\n");
  EXPECT_TRUE(policy.allows("a", member_));
  EXPECT_THAT(policy.warnings(), ElementsAre("policy.yaml:1: rule 'a': it has no value, which allows everybody"));
}

TEST_F(PolicyFiles, ARuleThatCannotBeUnderstoodDeniesAndIsAWarning) {
  const auto policy = parse("ok: '@'\na: role:admin or\nb: admin\n");
  EXPECT_FALSE(policy.allows("a", admin_));
  EXPECT_FALSE(policy.allows("b", admin_));
  EXPECT_THAT(policy.warnings(),
              ElementsAre("policy.yaml:2: rule 'a': 'role:admin or' cannot be understood: it denies",
                          "policy.yaml:3: rule 'b': 'admin' is no check, it has no colon: it denies"));
}

TEST_F(PolicyFiles, ChecksThatAskAServerAreRefused) {
  EXPECT_THAT(mistake("ok: '@'\na: role:x or http://host/%(owner)s\n"), HasSubstr("policy.yaml:2: rule 'a': http:"));
  EXPECT_THAT(mistake("a: [[\"https://host/\"]]\n"), HasSubstr("policy.yaml:1: rule 'a': http:"));
}

TEST_F(PolicyFiles, RulesInACircleDenyWithoutHarmAndAreNamed) {
  const auto policy = parse("a: rule:b\nb: not rule:a\nfine: rule:a or @\nself: '@ or rule:self'\n");
  EXPECT_FALSE(policy.allows("a", admin_));
  EXPECT_FALSE(policy.allows("b", admin_));
  EXPECT_TRUE(policy.allows("self", admin_));
  EXPECT_THAT(policy.warnings(), ElementsAre(HasSubstr("rules a, b, fine, self call each other in a circle")));
}

TEST_F(PolicyFiles, AChainOfManyRulesIsNoCircle) {
  std::string content;
  for (int i = 0; i < 5000; ++i) content += fmt::format("r{:05}: rule:r{:05}\n", i, i + 1);
  const auto policy = parse(content + "r05000: '@'\n");
  EXPECT_TRUE(policy.allows("r04900", admin_));
  EXPECT_FALSE(policy.allows("r00000", admin_));  // deeper than any rule may go
  EXPECT_THAT(policy.warnings(), IsEmpty());
}

TEST_F(PolicyFiles, RulesThatMultiplyEachOthersWorkEnd) {
  std::string content = "r0: role:x\n";
  for (int i = 1; i < 60; ++i) {
    const std::string below = "rule:r" + std::to_string(i - 1);
    content += "r" + std::to_string(i) + ": " + below + " or " + below + "\n";
  }
  EXPECT_FALSE(parse(content).allows("r59", admin_));
}

TEST_F(PolicyFiles, DeepNestingIsRefusedAndLongListsAreNot) {
  std::string deep;
  std::string longer = "role:x";
  for (int i = 0; i < 20000; ++i) {
    deep += "not ";
    longer += " or role:x";
  }
  const auto policy = parse("deep: " + deep + "role:x\nlong: " + longer + " or role:member\n");
  EXPECT_FALSE(policy.allows("deep", admin_));
  EXPECT_TRUE(policy.allows("long", member_));
  EXPECT_THAT(policy.warnings(), ElementsAre(HasSubstr("it nests too deeply")));
}

TEST_F(PolicyFiles, AFileBeyondTheLimitIsRefused) {
  const auto file = write("policy.yaml", "a: role:x\n");
  const auto policy = Policy::load({.policy_file = file, .max_file_bytes = 4}, {});
  ASSERT_FALSE(policy);
  EXPECT_THAT(policy.error().message, HasSubstr("larger than 4 bytes"));
}

TEST_F(PolicyFiles, TheOldNameManageImageCacheOpensTheThreeOldCallsUntilNewDefaultsAreEnforced) {
  const std::string content = "manage_image_cache: role:operator\n";
  const auto caller = with_roles({"operator"});
  const auto old_defaults = parse(content, image_cache_policies());
  EXPECT_TRUE(old_defaults.allows("cache_list", caller));
  EXPECT_TRUE(old_defaults.allows("cache_list", admin_));
  EXPECT_FALSE(old_defaults.allows("cache_clean", caller));
  const auto new_defaults = parse(content, image_cache_policies(true));
  EXPECT_FALSE(new_defaults.allows("cache_list", caller));
  EXPECT_TRUE(new_defaults.allows("manage_image_cache", caller));
}

TEST_F(PolicyFiles, WithEnforceScopeATokenOfTheSystemMayNotManageTheCache) {
  auto system = with_roles({"admin"});
  system.project_id.clear();
  system.system_scope = "all";
  const auto lax = Policy::load({}, image_cache_policies());
  const auto strict = Policy::load({.enforce_scope = true}, image_cache_policies());
  EXPECT_TRUE(lax->allows("cache_list", system));
  EXPECT_FALSE(strict->allows("cache_list", system));
  EXPECT_TRUE(strict->allows("context_is_admin", system));
  EXPECT_TRUE(strict->allows("cache_list", admin_));
}

}  // namespace
}  // namespace imagecache::identity
