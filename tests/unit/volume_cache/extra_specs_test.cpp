// Which backend a type may be on: each row as cinder.scheduler.filters decides it.
#include "volume_cache/extra_specs.hpp"

#include <gtest/gtest.h>

namespace imagecache::volume_cache {
namespace {

TEST(ExtraSpecs, AgreeAsCinderCompares) {
  struct Case {
    const char* value;
    const char* wanted;
    bool agrees;
  };
  for (const Case& one : {Case{"gold", "gold", true},
                          {"gold", "silver", false},
                          {"gold", "Gold", false},
                          {"gold", "", false},
                          {"", "", true},
                          {"True", "<is> true", true},
                          {"False", "<is> True", false},
                          {"no", "<is> False", true},
                          {"12", "= 10", true},
                          {"9", "= 10", false},
                          {"10", "== 10.0", true},
                          {"10", "!= 10", false},
                          {"9.5", ">= 9.5", true},
                          {"9", "<= 9", true},
                          {"gold", "== 1", false},
                          {"b", "s== b", true},
                          {"b", "s!= b", false},
                          {"a", "s< b", true},
                          {"b", "s<= b", true},
                          {"c", "s> b", true},
                          {"b", "s>= c", false},
                          {"golden", "<in> gold", true},
                          {"old", "<in> gold", false},
                          {"gold", "<or> silver <or> gold", true},
                          {"gold", "<or> silver <or> iron", false},
                          {"gold", "<or>", false},
                          {"gold", "s==", false},
                          {"<not> gold", "<not> gold", true}}) {
    EXPECT_EQ(agrees(one.value, one.wanted), one.agrees) << one.value << " and " << one.wanted;
  }
}

TEST(ExtraSpecs, AllWithoutAScopeMustBeCapabilitiesThatAgree) {
  const CapabilityValues backend{{"volume_backend_name", {"fast"}}, {"storage_protocol", {"iSCSI", "iscsi"}}};
  EXPECT_TRUE(satisfies({}, backend));
  EXPECT_TRUE(satisfies({{"volume_backend_name", "fast"}}, backend));
  EXPECT_TRUE(satisfies({{"capabilities:volume_backend_name", "fast"}}, backend));
  EXPECT_TRUE(satisfies({{"storage_protocol", "iscsi"}}, backend));
  EXPECT_FALSE(satisfies({{"storage_protocol", "nfs"}}, backend));
  EXPECT_FALSE(satisfies({{"volume_backend_name", "fast"}, {"vendor_name", "x"}}, backend));
  EXPECT_TRUE(satisfies({{"RESKEY:availability_zones", "nova"}, {"hp3par:mode", "x"}}, backend));
}

}  // namespace
}  // namespace imagecache::volume_cache
