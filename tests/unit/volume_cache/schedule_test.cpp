// Which backend a volume goes to that names none: types that two backends serve, and the default type.
#include <gmock/gmock.h>

#include "unit/volume_cache/rig.hpp"

namespace imagecache::volume_cache {
namespace {

using ::testing::HasSubstr;

class OneTypeOfTwoBackends : public Rig {
 protected:
  OneTypeOfTwoBackends() {
    for (const char* name : {"first", "second"}) {
      backend_options_[name].image_volume_cache_enabled = true;
      backend_options_[name].volume_backend_name = "gold-pool";
    }
    backend_options_.erase("fast");
  }
  void start_with_type() {
    start();
    ASSERT_TRUE(catalog_->create_volume_type(
        {.id = base::new_uuid(), .name = "gold", .extra_specs = {{"volume_backend_name", "gold-pool"}}}));
  }
  std::string image(char letter) { return origin_.add(content(letter)).id; }
  Result<Created> create_typed(const std::string& image_id, const std::string& type = "gold") {
    clock_.advance(seconds(1));
    auto request = wish(image_id);
    request.volume_type = type;
    return create(request);
  }
  /// Where it went; empty if it failed.
  std::string place_of_new(const std::string& image_id, const std::string& type = "gold") {
    const auto created = create_typed(image_id, type);
    return created ? created->volume.backend : "";
  }
};

TEST_F(OneTypeOfTwoBackends, TheFirstIsChosenAndTheNextWhileThatIsDisabledOrFrozen) {
  start_with_type();
  const auto a = image('a');
  for (const char* type : {"gold", "gold-pool"}) {
    EXPECT_EQ(place_of_new(a, type), "first") << type;
    ASSERT_TRUE(catalog_->set_service_state("host@first", {.disabled = true}));
    EXPECT_EQ(place_of_new(a, type), "second") << type;
    ASSERT_TRUE(catalog_->set_service_state("host@first", {.frozen = true}));
    EXPECT_EQ(place_of_new(a, type), "second") << type;
    ASSERT_TRUE(catalog_->set_service_state("host@second", {.disabled = true}));
    EXPECT_EQ(place_of_new(a, type), "") << type;
    for (const char* host : {"host@first", "host@second"}) ASSERT_TRUE(catalog_->set_service_state(host, {}));
  }
  EXPECT_EQ(image_volumes().size(), 2U) << "each has its own";
  EXPECT_EQ(counters_.volume_hits, 4U);
}

TEST_F(OneTypeOfTwoBackends, NeitherIsChosenWhileTheServiceThatChoosesIsDisabled) {
  options_.host = "host";
  start_with_type();
  const auto a = image('a');
  ASSERT_TRUE(catalog_->set_service_state("host", {.disabled = true}));
  EXPECT_EQ(place_of_new(a), "");
  ASSERT_TRUE(catalog_->set_service_state("host", {}));
  EXPECT_EQ(place_of_new(a), "first");
}

TEST_F(OneTypeOfTwoBackends, AFullOneIsNotPassedOverAndNothingIsLeftOfTheVolume) {
  memory_options_.capacity_bytes = content('a').size() / 2;
  start_with_type();
  const auto failed = create_typed(image('a'));
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, Errc::no_space);
  EXPECT_EQ(driver("second").calls(Op::create), 0U) << "the order is the operator's";
  EXPECT_TRUE(on_backend("first").empty());
  EXPECT_TRUE(image_volumes().empty());
  EXPECT_EQ(catalog_->quota(internal_project)->at("volumes").in_use, 0U);
  EXPECT_EQ(catalog_->list_messages(user_project).value().at(0).text,
            "copy image to volume:Image used for creating volume exceeds available space.");
}

TEST_F(OneTypeOfTwoBackends, ItsQuotaIsMadeRoomInOnEither) {
  start_with_type();
  ASSERT_TRUE(catalog_->create_volume_type({.id = base::new_uuid(), .name = "gold-pool"}));
  const auto a = image('a'), b = image('b');
  ASSERT_EQ(place_of_new(a), "first");
  ASSERT_TRUE(catalog_->set_quota(internal_project, {{"volumes_gold-pool", 1}}));
  ASSERT_TRUE(catalog_->set_service_state("host@first", {.disabled = true}));
  const auto created = create_typed(b);
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(created->outcome, Outcome::miss);
  ASSERT_EQ(image_volumes().size(), 1U);
  EXPECT_EQ(image_volumes()[0].image_id, b);
}

class DefaultType : public Rig {
 protected:
  DefaultType() { backend_options_["slow"].image_volume_cache_enabled = true; }
  Result<catalog::Volume> post(const CreateRequest& request) {
    auto begun = run(volumes_->start_create(request, user()));
    if (begun) EXPECT_TRUE(eventually([&] { return row(begun->id)->status == "available"; }));
    return begun;
  }
  /// As the hook asks, which may name a backend: Cinder counts the quota.
  Result<catalog::Volume> by_hook(const std::string& image_id, const std::string& backend) {
    auto request = wish(image_id, 1, backend);
    request.counts_quota = false;
    auto created = create(request);
    if (!created) return std::unexpected(created.error());
    return created->volume;
  }
};

TEST_F(DefaultType, IsThatOfAVolumeThatNamesNeitherTypeNorBackend) {
  options_.default_volume_type = "silver";
  start();
  ASSERT_TRUE(catalog_->create_volume_type(
      {.id = base::new_uuid(), .name = "silver", .extra_specs = {{"volume_backend_name", "slow-pool"}}}));
  const auto a = origin_.add(content('a')).id;
  for (const auto& made : {post(wish(a)), post(wish("")), by_hook(a, "")}) {
    ASSERT_TRUE(made) << made.error().message;
    EXPECT_EQ(made->backend, "slow");
    EXPECT_EQ(made->volume_type, "silver");
  }
  const auto named = by_hook(a, "fast");
  ASSERT_TRUE(named) << named.error().message;
  EXPECT_EQ(named->backend, "fast");
  EXPECT_EQ(named->volume_type, "fast-pool") << "Cinder knows which it is, and has not said";
}

TEST_F(DefaultType, MayBeABackendsOwn) {
  options_.default_volume_type = "slow-pool";
  start();
  const auto made = post(wish(origin_.add(content('a')).id));
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(made->backend, "slow");
  EXPECT_EQ(made->volume_type, "slow-pool");
}

TEST_F(DefaultType, ThatIsUnknownHereIsTheFirstBackend) {
  options_.default_volume_type = "__DEFAULT__";
  start();
  const auto a = origin_.add(content('a')).id;
  ::testing::internal::CaptureStderr();
  const auto posted = post(wish(a)), hooked = by_hook(a, "");
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("no volume type __DEFAULT__ (default_volume_type)"));
  for (const auto& made : {posted, hooked}) {
    ASSERT_TRUE(made) << made.error().message;
    EXPECT_EQ(made->backend, "fast");
  }
  auto named = wish(a);
  named.volume_type = "__DEFAULT__";
  EXPECT_EQ(create(named).error().message, "Volume type with name __DEFAULT__ could not be found.")
      << "who names it is told";
}

TEST_F(DefaultType, ThatIsEncryptedIsRefusedAndNotPassedOver) {
  options_.default_volume_type = "secret";
  start();
  const catalog::VolumeType secret{.id = base::new_uuid(), .name = "secret"};
  ASSERT_TRUE(catalog_->create_volume_type(secret));
  ASSERT_TRUE(catalog_->set_type_encryption(secret.id, {{"provider", "luks"}}));
  const auto request = wish(origin_.add(content('a')).id);
  const auto refused = run(volumes_->start_create(request, user()));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::unsupported);
  EXPECT_THAT(refused.error().message, HasSubstr("Volume type secret is encrypted"));
  EXPECT_FALSE(row(request.volume_id));
}

}  // namespace
}  // namespace imagecache::volume_cache
