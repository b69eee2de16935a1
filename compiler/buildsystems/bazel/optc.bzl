"""Bazel rule that compiles a model with optc.

    load("//tools:optc.bzl", "optc_model")

    optc_model(
        name = "det",
        recipe = "det.yaml",
        srcs = ["det.onnx", "calib.npz"],
        targets = ["cascadelake", "sapphirerapids"],
        optc = "//tools:optc.sh",
    )

`optc where bazel` prints the folder of this file: copy it into the workspace. The result is a
folder of the rule's name. `optc` is an executable target, for example a console script of
rules_python, or a script that calls an installed optc.
"""

def _optc_model_impl(ctx):
    output = ctx.actions.declare_directory(ctx.attr.name)
    arguments = ctx.actions.args()
    arguments.add("compile", ctx.file.recipe)
    arguments.add("--output", output.path)

    # Bazel has a cache of its own, and actions must not read what is not declared.
    arguments.add("--no-cache")
    arguments.add("--quiet")
    arguments.add_all(ctx.attr.targets, before_each = "--target")
    arguments.add_all(ctx.attr.overrides, before_each = "--set")
    if not ctx.attr.verify:
        arguments.add("--no-verify")
    ctx.actions.run(
        executable = ctx.executable.optc,
        arguments = [arguments],
        inputs = depset([ctx.file.recipe] + ctx.files.srcs),
        outputs = [output],
        mnemonic = "OptcCompile",
        progress_message = "Compiling model %s" % ctx.label,
        use_default_shell_env = True,
    )
    return [DefaultInfo(
        files = depset([output]),
        runfiles = ctx.runfiles(files = [output]),
    )]

optc_model = rule(
    implementation = _optc_model_impl,
    doc = "Compiles a model for one or more CPU targets.",
    attrs = {
        "recipe": attr.label(
            allow_single_file = [".yaml", ".yml"],
            mandatory = True,
            doc = "The recipe.",
        ),
        "srcs": attr.label_list(
            allow_files = True,
            doc = "What the recipe names: the model and its external data, data, recipes that it " +
                  "extends, target descriptors. What is missing here is missing in the sandbox.",
        ),
        "targets": attr.string_list(doc = "Targets instead of the recipe's."),
        "overrides": attr.string_list(doc = "Values of the recipe to override: path=value."),
        "verify": attr.bool(
            default = True,
            doc = "Whether the result is compared with the source model.",
        ),
        "optc": attr.label(
            allow_files = True,
            cfg = "exec",
            executable = True,
            mandatory = True,
            doc = "The compiler: an executable target, or a script that calls an installed optc.",
        ),
    },
)
