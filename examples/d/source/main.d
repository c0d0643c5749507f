// Runs a model with tensors of ones: app [--repeat N] MODEL [SIZE...]
// The sizes are those of each input; without them they follow from the model.
import std.algorithm : all, any, map, reduce;
import std.array : array, join;
import std.ascii : isDigit;
import std.conv : to;
import std.format : format;
import std.stdio : stderr, writeln;
import torchmodel;

/// One line for each tensor, number and text in a value.
void show(Value value)
{
    switch (value.kind)
    {
    case Kind.tensor:
        writeln(value.elements!double
                .map!(number => format("%.9g", number))
                .join(" "));
        break;
    case Kind.list, Kind.tuple, Kind.dict:
        foreach (item; value.items)
            show(item);
        break;
    case Kind.text:
        writeln(value.asString);
        break;
    case Kind.integer:
        writeln(value.asInt);
        break;
    case Kind.floating:
        writeln(format("%.9g", value.asFloat));
        break;
    case Kind.boolean:
        writeln(value.asBool);
        break;
    default:
        writeln("none");
    }
}

void run(string path, long[] sizes, long repeat)
{
    auto model = new Model(path);
    scope (exit)
        destroy(model);
    auto shapes = model.exampleShapes;
    foreach (number; 1 .. repeat + 1)
    {
        Value[] inputs;
        foreach (guess; shapes)
        {
            auto shape = sizes.length > 0 ? sizes : guess;
            auto ones = new float[shape.reduce!"a * b"];
            ones[] = 1;
            inputs ~= Value.tensor(ones, shape);
        }
        auto output = model.forward(inputs);
        if (number == repeat)
            show(output);
        foreach (ref input; inputs)
            destroy(input); // the garbage collector would free them later
    }
}

/// Whether all texts are whole numbers below a million.
bool areNumbers(string[] texts)
{
    return texts.all!(text => text.length > 0 && text.length < 7 && text.all!isDigit);
}

int main(string[] arguments)
{
    long repeat = 1;
    arguments = arguments[1 .. $];
    bool valid = true;
    if (arguments.length > 1 && arguments[0] == "--repeat")
    {
        valid = areNumbers(arguments[1 .. 2]);
        repeat = valid ? arguments[1].to!long : 0;
        arguments = arguments[2 .. $];
    }
    if (!valid || arguments.length == 0 || !areNumbers(arguments[1 .. $]))
    {
        stderr.writeln("usage: app [--repeat N] MODEL [SIZE...]");
        return 2;
    }
    try
        run(arguments[0], arguments[1 .. $].map!(to!long).array, repeat);
    catch (TorchException error)
    {
        stderr.writeln("app: ", error.msg);
        return 1;
    }
    return 0;
}
