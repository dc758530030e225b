// Oracle says what distribution/reference, the parser containerd uses, makes of image references.
//
// Without -tables it reads JSON strings, one a line, and prints one JSON object a line. With
// -tables it prints every string of the Go files given, such as the parser's own test tables, as
// JSON strings, one a line.
package main

import (
	"bufio"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/distribution/reference"
)

// Reading is what is known of one reference.
type Reading struct {
	Reference string `json:"reference"`
	Error     string `json:"error,omitempty"`
	Domain    string `json:"domain,omitempty"`
	Path      string `json:"path,omitempty"`
	Tag       string `json:"tag,omitempty"`
	Digest    string `json:"digest,omitempty"`
}

func main() {
	tables := flag.Bool("tables", false, "print the strings of the Go files given as arguments")
	flag.Parse()
	out := bufio.NewWriter(os.Stdout)
	err := run(out, os.Stdin, *tables, flag.Args())
	if flushed := out.Flush(); err == nil {
		err = flushed
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, in io.Reader, tables bool, files []string) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	if tables {
		return printStrings(encoder, files)
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var image string
		if err := json.Unmarshal(lines.Bytes(), &image); err != nil {
			return err
		}
		if err := encoder.Encode(read(image)); err != nil {
			return err
		}
	}
	return lines.Err()
}

func read(image string) Reading {
	reading := Reading{Reference: image}
	// ParseDockerRef drops the tag of a reference with tag and digest; this is its first step.
	named, err := reference.ParseNormalizedNamed(image)
	if err == nil {
		_, err = reference.ParseDockerRef(image)
	}
	if err != nil {
		reading.Error = err.Error()
		return reading
	}
	reading.Domain, reading.Path = reference.Domain(named), reference.Path(named)
	if tagged, ok := named.(reference.Tagged); ok {
		reading.Tag = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		reading.Digest = digested.Digest().String()
	}
	return reading
}

func printStrings(encoder *json.Encoder, files []string) error {
	seen := map[string]bool{}
	for _, file := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		var failed error
		ast.Inspect(tree, func(node ast.Node) bool {
			if _, imports := node.(*ast.ImportSpec); imports {
				return false
			}
			expression, ok := node.(ast.Expr)
			if !ok {
				return true
			}
			value, ok := constant(expression)
			if !ok {
				return true
			}
			if !seen[value] && failed == nil {
				seen[value] = true
				failed = encoder.Encode(value)
			}
			return false
		})
		if failed != nil {
			return failed
		}
	}
	return nil
}

// constant is the value of a string expression made of literals, + and strings.Repeat.
func constant(expression ast.Expr) (string, bool) {
	switch e := expression.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		value, err := strconv.Unquote(e.Value)
		return value, err == nil
	case *ast.ParenExpr:
		return constant(e.X)
	case *ast.BinaryExpr:
		left, leftOK := constant(e.X)
		right, rightOK := constant(e.Y)
		return left + right, e.Op == token.ADD && leftOK && rightOK
	case *ast.CallExpr:
		function, ok := e.Fun.(*ast.SelectorExpr)
		if !ok || function.Sel.Name != "Repeat" || len(e.Args) != 2 {
			return "", false
		}
		text, ok := constant(e.Args[0])
		count, isLiteral := e.Args[1].(*ast.BasicLit)
		if !ok || !isLiteral {
			return "", false
		}
		times, err := strconv.Atoi(count.Value)
		return strings.Repeat(text, max(times, 0)), err == nil
	}
	return "", false
}
