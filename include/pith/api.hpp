// SPDX-License-Identifier: MIT
// What a shared library of pith exports is marked; everything else in it is compiled hidden.
#pragma once

#define PITH_API [[gnu::visibility("default")]]
#define PITH_LOCAL [[gnu::visibility("hidden")]]  // inside a class that is marked
