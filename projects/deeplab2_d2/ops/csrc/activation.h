// The activations that convolutions have in them.
#pragma once

#include <c10/util/Exception.h>
#include <c10/util/string_view.h>

namespace deeplab2_d2 {

enum class Activation { kNone, kRelu, kRelu6, kHardSwish };

// Of a name in Python; `op` is for the error.
inline Activation activation_of(const char* op, c10::string_view name) {
  if (name == "none") {
    return Activation::kNone;
  }
  if (name == "relu") {
    return Activation::kRelu;
  }
  if (name == "relu6") {
    return Activation::kRelu6;
  }
  TORCH_CHECK(name == "hard_swish", op,
              ": activation must be none, relu, relu6 or hard_swish, got ", name);
  return Activation::kHardSwish;
}

}  // namespace deeplab2_d2
