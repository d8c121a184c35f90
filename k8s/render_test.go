// Package k8s_test checks the manifests: Kubernetes accepts them, their parts fit together,
// and the proxy starts with their settings.
package k8s_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	yamlutil "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// folders returns every folder that kustomize can render by itself. Components are parts of
// other folders, so they are not among them.
func folders(t *testing.T) []string {
	t.Helper()
	var found []string
	walk(t, func(path string, content []byte) {
		var kustomization struct{ Kind string }
		if filepath.Base(path) != "kustomization.yaml" {
			return
		}
		if err := yaml.Unmarshal(content, &kustomization); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if kustomization.Kind != "Component" {
			found = append(found, filepath.Dir(path))
		}
	})
	if len(found) < 4 {
		t.Fatalf("only %v have a kustomization.yaml", found)
	}
	return found
}

// walk visits every YAML file of this folder and those below.
func walk(t *testing.T, visit func(path string, content []byte)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		content, err := os.ReadFile(path)
		if err == nil {
			visit(path, content)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// render returns what kubectl apply -k would apply.
func render(t *testing.T, folder string) []runtime.Object {
	t.Helper()
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy // as kubectl does
	resources, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		t.Fatalf("%s: %v", folder, err)
	}
	text, err := resources.AsYaml()
	if err != nil {
		t.Fatalf("%s: %v", folder, err)
	}
	objects, err := decode(text)
	if err != nil {
		t.Fatalf("%s, rendered: %v", folder, err)
	}
	return objects
}

// decode returns the Kubernetes objects in text. An unknown or repeated field is an error,
// although the API server may only ignore it.
func decode(text []byte) ([]runtime.Object, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme,
		policyv1.AddToScheme, autoscalingv2.AddToScheme, networkingv1.AddToScheme, monitoringv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	var objects []runtime.Object
	for reader := yamlutil.NewYAMLReader(bufio.NewReader(bytes.NewReader(text))); ; {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		object, _, err := strict.Decode(document, nil, nil)
		if err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
}

// all returns the objects of one type.
func all[T runtime.Object](objects []runtime.Object) []T {
	var found []T
	for _, object := range objects {
		if one, ok := object.(T); ok {
			found = append(found, one)
		}
	}
	return found
}
