#include "catalog_fixture.hpp"

namespace imagecache::catalog {
namespace {

class VolumeTypes : public CatalogTest {};

TEST_F(VolumeTypes, AreFoundByIdAndByName) {
  const VolumeType made{"t1", "gold", "quick", false, {{"volume_backend_name", "fast"}}};
  ASSERT_OK(catalog_->create_volume_type(made));
  for (const auto& found : {catalog_->find_volume_type("t1").value(), catalog_->find_volume_type("gold").value()}) {
    ASSERT_TRUE(found);
    EXPECT_EQ(found->id, "t1");
    EXPECT_EQ(found->name, "gold");
    EXPECT_EQ(found->description, "quick");
    EXPECT_FALSE(found->is_public);
    EXPECT_EQ(found->extra_specs, made.extra_specs);
  }
  EXPECT_FALSE(catalog_->find_volume_type("iron").value());
  EXPECT_EQ(catalog_->list_volume_types().value().size(), 1U);
}

TEST_F(VolumeTypes, SayWhetherTheirVolumesAreEncryptedUnlessTheyHaveSome) {
  ASSERT_OK(catalog_->create_volume_type({.id = "t1", .name = "gold"}));
  EXPECT_TRUE(catalog_->find_volume_type("gold").value()->encryption.empty());
  const std::map<std::string, std::string> specs{{"provider", "luks"}, {"key_size", "256"}};
  ASSERT_OK(catalog_->set_type_encryption("t1", specs));
  ASSERT_OK(catalog_->update_volume_type({.id = "t1", .name = "silver"}));
  EXPECT_EQ(catalog_->find_volume_type("silver").value()->encryption, specs) << "a change of the rest leaves it";
  auto made = volume(1);
  made.volume_type = "silver";
  add(made);
  EXPECT_EQ(code_of(catalog_->set_type_encryption("t1", {})), Errc::conflict);
  EXPECT_EQ(code_of(catalog_->set_type_encryption("t2", {})), Errc::not_found);
}

TEST_F(VolumeTypes, NamesAreUnique) {
  ASSERT_OK(catalog_->create_volume_type({.id = "t1", .name = "gold"}));
  ASSERT_OK(catalog_->create_volume_type({.id = "t2", .name = "iron"}));
  EXPECT_EQ(code_of(catalog_->create_volume_type({.id = "t3", .name = "gold"})), Errc::already_exists);
  EXPECT_EQ(code_of(catalog_->create_volume_type({.id = "t1", .name = "new"})), Errc::already_exists);
  EXPECT_EQ(code_of(catalog_->update_volume_type({.id = "t2", .name = "gold"})), Errc::already_exists);
  EXPECT_EQ(code_of(catalog_->update_volume_type({.id = "t3", .name = "new"})), Errc::not_found);
  EXPECT_OK(catalog_->update_volume_type({.id = "t2", .name = "iron", .description = "slow"}));
  EXPECT_EQ(catalog_->find_volume_type("iron").value()->description, "slow");
}

TEST_F(VolumeTypes, ANewNameIsTakenOverByVolumesUsageAndQuotas) {
  ASSERT_OK(catalog_->create_volume_type({.id = "t1", .name = "gold"}));
  auto made = volume(1);
  made.volume_type = "gold";
  add(made);
  ASSERT_OK(catalog_->set_quota("p", {{"volumes_gold", 5}}));
  ASSERT_OK(catalog_->update_volume_type({.id = "t1", .name = "platinum"}));
  EXPECT_EQ(catalog_->find_volume(id(1)).value()->volume_type, "platinum");
  EXPECT_EQ(quota("volumes_platinum").in_use, 1U);
  EXPECT_EQ(quota("gigabytes_platinum").in_use, 1U);
  EXPECT_EQ(quota("volumes_platinum").limit, 5);
  EXPECT_FALSE(catalog_->quota("p").value().contains("volumes_gold"));
}

TEST_F(VolumeTypes, AreNotRemovedWhileAVolumeUsesThem) {
  ASSERT_OK(catalog_->create_volume_type({.id = "t1", .name = "gold"}));
  ASSERT_OK(catalog_->set_quota("q", {{"volumes_gold", 5}}));
  auto made = volume(1);
  made.volume_type = "gold";
  made.counts_quota = false;
  add(made);
  EXPECT_EQ(code_of(catalog_->remove_volume_type("t1")), Errc::conflict);
  ASSERT_OK(catalog_->remove_volume(id(1)));
  EXPECT_OK(catalog_->remove_volume_type("t1"));
  EXPECT_EQ(code_of(catalog_->remove_volume_type("t1")), Errc::not_found);
  // Another type that takes the name does not inherit the limit.
  ASSERT_OK(catalog_->create_volume_type({.id = "t2", .name = "gold"}));
  EXPECT_EQ(quota("volumes_gold", "q").limit, -1);
}

}  // namespace
}  // namespace imagecache::catalog
